{#- A UTC timestamp from an HL7 time, YYYY[MM[DD[HH[MM[SS[.S…]]]]]][+/-ZZZZ], cut to microseconds; what it
    leaves out is the start of the stretch it names. Without an offset it is local to the zone, and a NULL
    zone is UTC. NULL for anything else, 30 February among it: pattern and calendar first, cast after.
    Pass columns. -#}
{% macro hl7_timestamp(text, zone) -%}
    {%- set filled -%}
        case length({{ regexp_part(text, '^[0-9]+') }})
            when 4 then {{ regexp_part(text, '^[0-9]+') }} || '0101000000'
            when 6 then {{ regexp_part(text, '^[0-9]+') }} || '01000000'
            else rpad({{ regexp_part(text, '^[0-9]+') }}, 14, '0')
        end
    {%- endset -%}
    {%- set local_moment -%}
        cast(
            substring({{ filled }}, 1, 4) || '-' || substring({{ filled }}, 5, 2) || '-' || substring({{ filled }}, 7, 2)
            || ' ' || substring({{ filled }}, 9, 2) || ':' || substring({{ filled }}, 11, 2) || ':' || substring({{ filled }}, 13, 2)
            || coalesce(substring({{ regexp_part(text, '[.][0-9]+') }}, 1, 7), '')
            as timestamp
        )
    {%- endset -%}
    case
        when not {{ hl7_is_time(text) }} then null
        when {{ matches(text, '[+-]') }} then {{ local_moment }} - {{ zone_offset(text) }}
        else {{ to_utc(local_moment, "coalesce(" ~ zone ~ ", 'UTC')") }}
    end
{%- endmacro %}
