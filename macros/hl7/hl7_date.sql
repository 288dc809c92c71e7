{#- The day in an HL7 time, as written: a date of birth is not moved to another zone. NULL for a time without
    a day, since the first of January would be a made-up one. Pass a column. -#}
{% macro hl7_date(text) -%}
    case
        when {{ hl7_is_time(text) }} and {{ matches(text, '^[0-9]{8}') }}
            then cast(
                substring({{ text }}, 1, 4) || '-' || substring({{ text }}, 5, 2) || '-' || substring({{ text }}, 7, 2)
                as date
            )
    end
{%- endmacro %}
