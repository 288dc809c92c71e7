{% macro parse_decimal_text(text) %}{{ return(adapter.dispatch('parse_decimal_text', 'clinical_data_warehouse')(text)) }}{% endmacro %}

{% macro default__parse_decimal_text(text) %}{{ unsupported('parse_decimal_text') }}{% endmacro %}

{#- DuckDB rounds some texts with an exponent wrongly ('0.5e-99' gives 0.000001), so the point is moved first.
    decimal(18, 6) is read a hundred times faster than a wider one, and what does not fit is NULL. -#}
{% macro duckdb__parse_decimal_text(text) -%}
    {%- set whole = "regexp_extract(" ~ text ~ ", '^-?([0-9]+)', 1)" %}
    {%- set fraction = "regexp_extract(" ~ text ~ ", '[.]([0-9]+)', 1)" %}
    {%- set exponent = "cast(regexp_extract(" ~ text ~ ", '[eE]([+-]?[0-9]+)$', 1) as integer)" -%}
    try_cast(
        case
            when not regexp_matches({{ text }}, '[eE]') then {{ text }}
            when {{ exponent }} < 0
                then regexp_extract({{ text }}, '^-?')
                    || left(repeat('0', -{{ exponent }}) || {{ whole }}, length({{ whole }}))
                    || '.' || right(repeat('0', -{{ exponent }}) || {{ whole }}, -{{ exponent }}) || {{ fraction }}
            else regexp_extract({{ text }}, '^-?')
                || {{ whole }} || left(rpad({{ fraction }}, {{ exponent }}, '0'), {{ exponent }})
                || '.' || substring({{ fraction }}, {{ exponent }} + 1) || '0'
        end as decimal(18, 6)
    )
{%- endmacro %}

{% macro postgres__parse_decimal_text(text) -%}
    round(cast({{ text }} as numeric), 6)
{%- endmacro %}

{% macro redshift__parse_decimal_text(text) -%}
    cast({{ text }} as decimal(38, 6))
{%- endmacro %}
