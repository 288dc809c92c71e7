{#- The Debezium envelope of a change record: itself, or under "payload" where the converter adds its schema. -#}
{% macro cdc_envelope(payload) -%}
    case
        when {{ json_text(payload, ['payload', 'op']) }} is null then {{ payload }}
        else {{ json_node(payload, ['payload']) }}
    end
{%- endmacro %}
