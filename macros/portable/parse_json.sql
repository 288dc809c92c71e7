{#- JSON that came as text inside JSON (prescription parameters), or NULL where it cannot be read the same
    way on every warehouse: DuckDB alone takes NaN and a comma before a closing bracket, and Postgres
    raises only later on a NUL or surrogate escape. -#}
{% macro parse_json(text) -%}
    case
        when {{ matches(text, '\\\\u(0000|[dD][89a-fA-F])') }} then null
        when {{ matches(text, ',\s*[]}]') }} then null
        when {{ matches(text, '[,:[]\s*[+-]?([nN][aA][nN]|[iI][nN][fF])') }} then null
        else {{ strict_json(text) }}
    end
{%- endmacro %}
