{#- A whole number of at most eighteen digits, or NULL. Pass a column. -#}
{% macro parse_bigint(text) -%}
    case when {{ matches(text, '^-?[0-9]{1,18}$') }} then cast({{ text }} as bigint) end
{%- endmacro %}
