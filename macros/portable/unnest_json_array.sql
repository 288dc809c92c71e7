{% macro unnest_json_array(relation, array_column, element, position) %}{{ return(adapter.dispatch('unnest_json_array', 'clinical_data_warehouse')(relation, array_column, element, position)) }}{% endmacro %}

{% macro default__unnest_json_array(relation, array_column, element, position) %}{{ unsupported('unnest_json_array') }}{% endmacro %}

{% macro duckdb__unnest_json_array(relation, array_column, element, position) -%}
    select
        source_rows.*,
        unnest(cast(source_rows.{{ array_column }} as json[])) as {{ element }},
        generate_subscripts(cast(source_rows.{{ array_column }} as json[]), 1) as {{ position }}
    from {{ relation }} as source_rows
    where json_type(source_rows.{{ array_column }}) = 'ARRAY'
{%- endmacro %}

{% macro postgres__unnest_json_array(relation, array_column, element, position) -%}
    select
        source_rows.*,
        elements.{{ element }},
        elements.{{ position }}
    from {{ relation }} as source_rows
    cross join lateral json_array_elements(
        case when json_typeof(source_rows.{{ array_column }}) = 'array' then source_rows.{{ array_column }} end
    ) with ordinality as elements ({{ element }}, {{ position }})
{%- endmacro %}

{% macro redshift__unnest_json_array(relation, array_column, element, position) -%}
    select
        source_rows.*,
        {{ element }},
        {{ position }} + 1 as {{ position }}
    from {{ relation }} as source_rows, source_rows.{{ array_column }} as {{ element }} at {{ position }}
{%- endmacro %}
