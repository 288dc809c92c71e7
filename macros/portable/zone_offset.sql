{#- The interval by which a time ending in +hh:mm, +hhmm or -hh:mm is ahead of UTC; zero for Z or nothing. -#}
{% macro zone_offset(text) -%}
    coalesce(
        (case when substring({{ regexp_part(text, '[+-][0-9:]+$') }}, 1, 1) = '-' then -1 else 1 end)
        * (
            cast(substring({{ regexp_part(text, '[+-][0-9:]+$') }}, 2, 2) as integer) * 60
            + cast(right({{ regexp_part(text, '[+-][0-9:]+$') }}, 2) as integer)
        ),
        0
    ) * interval '1 minute'
{%- endmacro %}
