{% macro unnest_json_object(relation, object_column, key, value) %}{{ return(adapter.dispatch('unnest_json_object', 'clinical_data_warehouse')(relation, object_column, key, value)) }}{% endmacro %}

{% macro default__unnest_json_object(relation, object_column, key, value) %}{{ unsupported('unnest_json_object') }}{% endmacro %}

{% macro duckdb__unnest_json_object(relation, object_column, key, value) -%}
    select
        source_rows.*,
        members.key as {{ key }},
        members.value as {{ value }}
    from {{ relation }} as source_rows
    cross join lateral json_each(
        case when json_type(source_rows.{{ object_column }}) = 'OBJECT' then source_rows.{{ object_column }} end
    ) as members
{%- endmacro %}

{% macro postgres__unnest_json_object(relation, object_column, key, value) -%}
    select
        source_rows.*,
        members.{{ key }},
        members.{{ value }}
    from {{ relation }} as source_rows
    cross join lateral json_each(
        case when json_typeof(source_rows.{{ object_column }}) = 'object' then source_rows.{{ object_column }} end
    ) as members ({{ key }}, {{ value }})
{%- endmacro %}

{% macro redshift__unnest_json_object(relation, object_column, key, value) -%}
    select
        source_rows.*,
        cast({{ key }} as varchar(65535)) as {{ key }},
        {{ value }}
    from {{ relation }} as source_rows, unpivot source_rows.{{ object_column }} as {{ value }} at {{ key }}
{%- endmacro %}
