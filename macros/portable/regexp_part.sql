{% macro regexp_part(text, pattern) %}{{ return(adapter.dispatch('regexp_part', 'clinical_data_warehouse')(text, pattern)) }}{% endmacro %}

{% macro default__regexp_part(text, pattern) %}{{ unsupported('regexp_part') }}{% endmacro %}

{% macro duckdb__regexp_part(text, pattern) -%}
    nullif(regexp_extract({{ text }}, '{{ pattern }}'), '')
{%- endmacro %}

{% macro postgres__regexp_part(text, pattern) -%}
    substring({{ text }} from '{{ pattern }}')
{%- endmacro %}

{% macro redshift__regexp_part(text, pattern) -%}
    nullif(regexp_substr({{ text }}, '{{ pattern | replace('\\', '\\\\') }}'), '')
{%- endmacro %}
