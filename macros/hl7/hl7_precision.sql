{#- How much of the time an HL7 time names: year, month, day, hour, minute or second. NULL where it is none. -#}
{% macro hl7_precision(text) -%}
    case
        when {{ hl7_is_time(text) }}
            then case length({{ regexp_part(text, '^[0-9]+') }})
                when 4 then 'year'
                when 6 then 'month'
                when 8 then 'day'
                when 10 then 'hour'
                when 12 then 'minute'
                when 14 then 'second'
            end
    end
{%- endmacro %}
