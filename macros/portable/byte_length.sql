{% macro byte_length(text) %}{{ return(adapter.dispatch('byte_length', 'clinical_data_warehouse')(text)) }}{% endmacro %}

{% macro default__byte_length(text) %}{{ unsupported('byte_length') }}{% endmacro %}

{% macro duckdb__byte_length(text) -%}
    strlen({{ text }})
{%- endmacro %}

{% macro postgres__byte_length(text) -%}
    octet_length({{ text }})
{%- endmacro %}

{% macro redshift__byte_length(text) -%}
    octet_length({{ text }})
{%- endmacro %}
