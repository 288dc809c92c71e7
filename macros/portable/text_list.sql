{#- An aggregate: the texts of a group joined by line feeds, or by nothing, in an order that must be total. On
    Redshift it raises above 65,535 bytes: leave such groups out first. -#}
{% macro text_list(text, order_by, separator='chr(10)') %}{{ return(adapter.dispatch('text_list', 'clinical_data_warehouse')(text, order_by, separator)) }}{% endmacro %}

{% macro default__text_list(text, order_by, separator) %}{{ unsupported('text_list') }}{% endmacro %}

{% macro duckdb__text_list(text, order_by, separator) -%}
    string_agg({{ text }}, {{ separator }} order by {{ order_by }})
{%- endmacro %}

{% macro postgres__text_list(text, order_by, separator) -%}
    string_agg({{ text }}, {{ separator }} order by {{ order_by }})
{%- endmacro %}

{% macro redshift__text_list(text, order_by, separator) -%}
    listagg({{ text }}, {{ separator }}) within group (order by {{ order_by }})
{%- endmacro %}
