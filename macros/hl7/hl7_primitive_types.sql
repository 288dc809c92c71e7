{#- SQL list of the data types whose value has no components: one with any was sent without the escapes it needs. -#}
{% macro hl7_primitive_types() -%}
    ('ST', 'TX', 'FT', 'NM', 'DT', 'TM', 'DTM', 'ID', 'IS', 'SI')
{%- endmacro %}
