{#- The text at a path of decoded HL7, as sent; NULL for what is no string. -#}
{% macro hl7_text(json, path) -%}
    case when {{ json_kind(json_node(json, path)) }} = 'string' then {{ json_text(json, path) }} end
{%- endmacro %}
