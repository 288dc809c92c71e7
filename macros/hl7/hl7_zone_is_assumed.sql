{#- Whether a time was taken as UTC for want of anything better: neither it nor its facility names a zone. -#}
{% macro hl7_zone_is_assumed(text, zone) -%}
    ({{ zone }} is null and {{ hl7_is_time(text) }} and not {{ matches(text, '[+-]') }})
{%- endmacro %}
