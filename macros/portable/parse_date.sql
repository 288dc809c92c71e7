{#- A date as the EHR's change records spell it: yyyy-mm-dd, days since 1970 (Debezium's Date), or epoch
    milliseconds. A whole number of at most six digits is days. NULL for anything else. Pass a column. -#}
{% macro parse_date(text) -%}
    case
        when {{ matches(text, '^-?[0-9]{1,6}$') }}
            then case
                when cast({{ text }} as integer) between -354285 and 376200
                    then cast(timestamp '1970-01-01' + cast({{ text }} as integer) * interval '1 day' as date)
            end
        when {{ matches(text, '^-?[0-9]{7,14}$') }}
            then case
                when cast({{ text }} as bigint) between -30610224000000 and 32503679999999
                    then cast({{ timestamp_from_epoch_ms(text) }} as date)
            end
        when not {{ matches(text, '^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$') }} then null
        when cast(substring({{ text }}, 9, 2) as integer)
            <= extract(day from cast(substring({{ text }}, 1, 7) || '-01' as timestamp) + interval '1 month' - interval '1 day')
            then cast({{ text }} as date)
    end
{%- endmacro %}
