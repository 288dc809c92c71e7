{% macro json_has_other_keys(json, key) %}{{ return(adapter.dispatch('json_has_other_keys', 'clinical_data_warehouse')(json, key)) }}{% endmacro %}

{% macro default__json_has_other_keys(json, key) %}{{ unsupported('json_has_other_keys') }}{% endmacro %}

{% macro duckdb__json_has_other_keys(json, key) -%}
    coalesce(len(json_keys({{ json }})) > case when list_contains(json_keys({{ json }}), '{{ key }}') then 1 else 0 end, false)
{%- endmacro %}

{% macro postgres__json_has_other_keys(json, key) -%}
    exists(
            select 1
            from json_object_keys(case when json_typeof({{ json }}) = 'object' then {{ json }} end) as keys (key)
            where keys.key <> '{{ key }}'
        )
{%- endmacro %}

{% macro redshift__json_has_other_keys(json, key) -%}
    coalesce(
            is_object({{ json }})
            and json_serialize({{ json }}) <> coalesce('{"{{ key }}":' || json_serialize({{ json }}."{{ key }}") || '}', '{}'),
            false
        )
{%- endmacro %}
