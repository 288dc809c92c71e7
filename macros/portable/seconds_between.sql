{% macro seconds_between(from_moment, to_moment) %}{{ return(adapter.dispatch('seconds_between', 'clinical_data_warehouse')(from_moment, to_moment)) }}{% endmacro %}

{% macro default__seconds_between(from_moment, to_moment) %}{{ unsupported('seconds_between') }}{% endmacro %}

{% macro duckdb__seconds_between(from_moment, to_moment) -%}
    (date_diff('microsecond', {{ from_moment }}, {{ to_moment }}) / cast(1000000 as double precision))
{%- endmacro %}

{% macro postgres__seconds_between(from_moment, to_moment) -%}
    cast(extract(epoch from ({{ to_moment }}) - ({{ from_moment }})) as double precision)
{%- endmacro %}

{% macro redshift__seconds_between(from_moment, to_moment) -%}
    (datediff(microsecond, {{ from_moment }}, {{ to_moment }}) / cast(1000000 as double precision))
{%- endmacro %}
