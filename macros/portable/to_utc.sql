{#- UTC for a moment that is local to a named zone. Of an hour that comes twice the second, of one that is
    skipped the time before the change: the same on every warehouse. -#}
{% macro to_utc(moment, zone) %}{{ return(adapter.dispatch('to_utc', 'clinical_data_warehouse')(moment, zone)) }}{% endmacro %}

{% macro default__to_utc(moment, zone) %}{{ unsupported('to_utc') }}{% endmacro %}

{% macro duckdb__to_utc(moment, zone) -%}
    timezone('UTC', timezone({{ zone }}, {{ moment }}))
{%- endmacro %}

{% macro postgres__to_utc(moment, zone) -%}
    timezone('UTC', timezone({{ zone }}, {{ moment }}))
{%- endmacro %}

{% macro redshift__to_utc(moment, zone) -%}
    convert_timezone({{ zone }}, 'UTC', {{ moment }})
{%- endmacro %}
