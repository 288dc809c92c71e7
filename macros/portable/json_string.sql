{#- A field's text where it is a JSON string with something in it, or a whole number. NULL for any other
    JSON value, since engines spell those differently, and for text with control characters in it. -#}
{% macro json_string(json, path) -%}
    case
        when {{ matches(json_text(json, path), '[\\x01-\\x1f]') }} then null
        when {{ json_kind(json_node(json, path)) }} = 'string'
            then case when {{ matches(json_text(json, path), '[^ ]') }} then {{ json_text(json, path) }} end
        when {{ matches(json_text(json, path), '^(0|-?[1-9][0-9]{0,17})$') }} then {{ json_text(json, path) }}
    end
{%- endmacro %}
