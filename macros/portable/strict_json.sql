{% macro strict_json(text) %}{{ return(adapter.dispatch('strict_json', 'clinical_data_warehouse')(text)) }}{% endmacro %}

{% macro default__strict_json(text) %}{{ unsupported('strict_json') }}{% endmacro %}

{% macro duckdb__strict_json(text) -%}
    try_cast({{ text }} as json)
{%- endmacro %}

{% macro postgres__strict_json(text) -%}
    case when {{ text }} is json then cast({{ text }} as json) end
{%- endmacro %}

{% macro redshift__strict_json(text) -%}
    case when is_valid_json({{ text }}) or is_valid_json_array({{ text }}) then json_parse({{ text }}) end
{%- endmacro %}
