{#- Design section 8, numbers: pattern first, cast after, so that nothing a sender writes makes a model
    raise. Gives numeric(18, 6), half up at the sixth decimal, or NULL. Pass a column, not an expression. -#}
{% macro parse_number(text) -%}
    cast(
        case
            when not {{ matches(text, '^-?[0-9]{1,11}([.][0-9]+)?([eE][+-]?[0-9]{1,2})?$') }} then null
            when abs({{ parse_decimal_text(text) }}) < 1000000000000 then {{ parse_decimal_text(text) }}
        end as numeric(18, 6)
    )
{%- endmacro %}
