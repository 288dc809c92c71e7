{#- Whole microseconds, not seconds: sums of whole numbers come out the same in whatever order they are added. -#}
{% macro microseconds_between(from_moment, to_moment) %}{{ return(adapter.dispatch('microseconds_between', 'clinical_data_warehouse')(from_moment, to_moment)) }}{% endmacro %}

{% macro default__microseconds_between(from_moment, to_moment) %}{{ unsupported('microseconds_between') }}{% endmacro %}

{% macro duckdb__microseconds_between(from_moment, to_moment) -%}
    date_diff('microsecond', {{ from_moment }}, {{ to_moment }})
{%- endmacro %}

{% macro postgres__microseconds_between(from_moment, to_moment) -%}
    cast(extract(epoch from ({{ to_moment }}) - ({{ from_moment }})) * 1000000 as bigint)
{%- endmacro %}

{% macro redshift__microseconds_between(from_moment, to_moment) -%}
    datediff(microsecond, {{ from_moment }}, {{ to_moment }})
{%- endmacro %}
