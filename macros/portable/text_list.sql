{#- An aggregate: the texts of a group joined by line feeds, in an order that must be total. On Redshift it
    raises above 65,535 bytes: leave such groups out first. -#}
{% macro text_list(text, order_by) %}{{ return(adapter.dispatch('text_list', 'clinical_data_warehouse')(text, order_by)) }}{% endmacro %}

{% macro default__text_list(text, order_by) %}{{ unsupported('text_list') }}{% endmacro %}

{% macro duckdb__text_list(text, order_by) -%}
    string_agg({{ text }}, chr(10) order by {{ order_by }})
{%- endmacro %}

{% macro postgres__text_list(text, order_by) -%}
    string_agg({{ text }}, chr(10) order by {{ order_by }})
{%- endmacro %}

{% macro redshift__text_list(text, order_by) -%}
    listagg({{ text }}, chr(10)) within group (order by {{ order_by }})
{%- endmacro %}
