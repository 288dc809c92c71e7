{% macro has_repeated_key(json) %}{{ return(adapter.dispatch('has_repeated_key', 'clinical_data_warehouse')(json)) }}{% endmacro %}

{% macro default__has_repeated_key(json) %}{{ unsupported('has_repeated_key') }}{% endmacro %}

{% macro duckdb__has_repeated_key(json) -%}
    (len(json_keys({{ json }})) <> len(list_distinct(json_keys({{ json }}))))
{%- endmacro %}

{% macro postgres__has_repeated_key(json) -%}
    (not (cast({{ json }} as text) is json with unique keys))
{%- endmacro %}

{% macro redshift__has_repeated_key(json) -%}
    false
{%- endmacro %}
