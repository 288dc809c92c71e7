{% macro json_kind(json) %}{{ return(adapter.dispatch('json_kind', 'clinical_data_warehouse')(json)) }}{% endmacro %}

{% macro default__json_kind(json) %}{{ unsupported('json_kind') }}{% endmacro %}

{% macro duckdb__json_kind(json) -%}
    case json_type({{ json }})
            when 'VARCHAR' then 'string'
            when 'UBIGINT' then 'number'
            when 'BIGINT' then 'number'
            when 'DOUBLE' then 'number'
            else lower(json_type({{ json }}))
        end
{%- endmacro %}

{% macro postgres__json_kind(json) -%}
    json_typeof({{ json }})
{%- endmacro %}

{% macro redshift__json_kind(json) -%}
    json_typeof({{ json }})
{%- endmacro %}
