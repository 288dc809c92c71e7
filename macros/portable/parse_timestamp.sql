{#- Design section 8, times: ISO 8601 date and time with minutes, optional seconds and fraction, optional
    zone (UTC where there is none), or epoch milliseconds. Gives a UTC timestamp cut to microseconds, or
    NULL. Pattern and calendar first, cast after: 30 February is NULL, not an error. Pass a column. -#}
{% macro parse_timestamp(text) -%}
    case
        when {{ matches(text, '^[0-9]{1,14}$') }}
            then case when cast({{ text }} as bigint) < 32503680000000 then {{ timestamp_from_epoch_ms(text) }} end
        when not {{ matches(text, '^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?(Z|[+-](0[0-9]|1[0-4]):?[0-5][0-9])?$') }}
            then null
        when cast(substring({{ text }}, 9, 2) as integer)
            > extract(day from cast(substring({{ text }}, 1, 7) || '-01' as timestamp) + interval '1 month' - interval '1 day')
            then null
        else cast(
                substring({{ text }}, 1, 10) || ' ' || substring({{ text }}, 12, 5)
                || coalesce(substring({{ regexp_part('substring(' ~ text ~ ', 17)', '^:[0-9.]+') }}, 1, 10), ':00')
                as timestamp
            )
            - {{ zone_offset('substring(' ~ text ~ ', 17)') }}
    end
{%- endmacro %}
