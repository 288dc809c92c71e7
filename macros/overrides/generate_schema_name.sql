{#- Marts bear their bare names on the shipped targets, where BI tools look for them; any other target is
    a developer's own and gets its schema as a prefix, so that nobody builds over production. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- if custom_schema_name is none -%}
        {{ target.schema }}
    {%- elif target.name in ['duckdb', 'postgres', 'redshift'] -%}
        {{ custom_schema_name | trim }}
    {%- else -%}
        {{ target.schema }}_{{ custom_schema_name | trim }}
    {%- endif -%}
{%- endmacro %}
