{#- The topic that lands in a raw table, as the var "topics" has it, as a text literal. -#}
{% macro topic_of(table) -%}
    {%- for topic, landing_table in var('topics').items() if landing_table == table -%}
        '{{ topic }}'
    {%- else -%}
        {{ exceptions.raise_compiler_error("no topic in the var 'topics' lands in " ~ table) }}
    {%- endfor -%}
{%- endmacro %}
