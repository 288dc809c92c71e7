{% macro text_order(text) %}{{ return(adapter.dispatch('text_order', 'clinical_data_warehouse')(text)) }}{% endmacro %}

{% macro default__text_order(text) %}{{ unsupported('text_order') }}{% endmacro %}

{% macro duckdb__text_order(text) -%}
    {{ text }}
{%- endmacro %}

{% macro postgres__text_order(text) -%}
    ({{ text }} collate "C")
{%- endmacro %}

{% macro redshift__text_order(text) -%}
    {{ text }}
{%- endmacro %}
