{% macro timestamp_text(moment) %}{{ return(adapter.dispatch('timestamp_text', 'clinical_data_warehouse')(moment)) }}{% endmacro %}

{% macro default__timestamp_text(moment) %}{{ unsupported('timestamp_text') }}{% endmacro %}

{% macro duckdb__timestamp_text(moment) -%}
    strftime({{ moment }}, '%Y-%m-%d %H:%M:%S.%f')
{%- endmacro %}

{% macro postgres__timestamp_text(moment) -%}
    to_char({{ moment }}, 'YYYY-MM-DD HH24:MI:SS.US')
{%- endmacro %}

{% macro redshift__timestamp_text(moment) -%}
    to_char({{ moment }}, 'YYYY-MM-DD HH24:MI:SS.US')
{%- endmacro %}
