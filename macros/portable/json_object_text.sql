{% macro json_object_text(json, path) %}{{ return(adapter.dispatch('json_object_text', 'clinical_data_warehouse')(json, path)) }}{% endmacro %}

{% macro default__json_object_text(json, path) %}{{ unsupported('json_object_text') }}{% endmacro %}

{% macro duckdb__json_object_text(json, path) -%}
    {{ json_text(json, path) }}
{%- endmacro %}

{% macro postgres__json_object_text(json, path) -%}
    {{ json_text(json, path) }}
{%- endmacro %}

{% macro redshift__json_object_text(json, path) -%}
    json_serialize({{ json_node(json, path) }})
{%- endmacro %}
