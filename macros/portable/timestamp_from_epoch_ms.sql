{% macro timestamp_from_epoch_ms(milliseconds) %}{{ return(adapter.dispatch('timestamp_from_epoch_ms', 'clinical_data_warehouse')(milliseconds)) }}{% endmacro %}

{% macro default__timestamp_from_epoch_ms(milliseconds) %}{{ unsupported('timestamp_from_epoch_ms') }}{% endmacro %}

{% macro duckdb__timestamp_from_epoch_ms(milliseconds) -%}
    make_timestamp(cast({{ milliseconds }} as bigint) * 1000)
{%- endmacro %}

{% macro postgres__timestamp_from_epoch_ms(milliseconds) -%}
    (timestamp '1970-01-01' + cast({{ milliseconds }} as bigint) * interval '1 millisecond')
{%- endmacro %}

{% macro redshift__timestamp_from_epoch_ms(milliseconds) -%}
    dateadd(millisecond, cast({{ milliseconds }} as bigint), timestamp '1970-01-01')
{%- endmacro %}
