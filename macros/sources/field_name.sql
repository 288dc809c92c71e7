{#- The name that senders give to a field of ours, by the var "field_names" of the topic that lands in a table. -#}
{% macro field_name(table, field) -%}
    {%- for topic, landing_table in var('topics').items()
        if landing_table == table and field in var('field_names').get(topic, {}) -%}
        {{ return(var('field_names')[topic][field]) }}
    {%- endfor -%}
    {{ exceptions.raise_compiler_error("the var 'field_names' has no name for " ~ field ~ " of the topic that lands in " ~ table) }}
{%- endmacro %}
