{% macro matches(text, pattern) %}{{ return(adapter.dispatch('matches', 'clinical_data_warehouse')(text, pattern)) }}{% endmacro %}

{% macro default__matches(text, pattern) %}{{ unsupported('matches') }}{% endmacro %}

{% macro duckdb__matches(text, pattern) -%}
    regexp_matches({{ text }}, '{{ pattern }}')
{%- endmacro %}

{% macro postgres__matches(text, pattern) -%}
    ({{ text }} ~ '{{ pattern }}')
{%- endmacro %}

{% macro redshift__matches(text, pattern) -%}
    ({{ text }} ~ '{{ pattern | replace('\\', '\\\\') }}')
{%- endmacro %}
