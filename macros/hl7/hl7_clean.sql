{#- A value that names something (identifier, code, unit): blanks around it do not count (HL7 v2.5.1, 2.5.3.2),
    and one that is empty, HL7's null or holds control characters names nothing. -#}
{% macro hl7_clean(value) -%}
    nullif(nullif(trim({{ regexp_part(value, '^[^\\x01-\\x1f]+$') }}), ''), '""')
{%- endmacro %}
