{#- Whether a text is an HL7 time of a day that exists. Never NULL. Pass a column. -#}
{% macro hl7_is_time(text) -%}
    case
        when {{ matches(text, '^[12][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])(([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9]([.][0-9]+)?)?)?)?([+-](0[0-9]|1[0-4])[0-5][0-9])?$') }}
            then cast(substring({{ text }}, 7, 2) as integer) <= extract(
                day from cast(substring({{ text }}, 1, 4) || '-' || substring({{ text }}, 5, 2) || '-01' as timestamp)
                + interval '1 month' - interval '1 day'
            )
        else coalesce({{ matches(text, '^[12][0-9]{3}(0[1-9]|1[0-2])?([+-](0[0-9]|1[0-4])[0-5][0-9])?$') }}, false)
    end
{%- endmacro %}
