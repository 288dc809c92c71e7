{% macro json_node(json, path) %}{{ return(adapter.dispatch('json_node', 'clinical_data_warehouse')(json, path)) }}{% endmacro %}

{% macro default__json_node(json, path) %}{{ unsupported('json_node') }}{% endmacro %}

{% macro duckdb__json_node(json, path) -%}
    json_extract({{ json }}, '${% for step in path %}{% if step is number %}[{{ step }}]{% else %}."{{ step }}"{% endif %}{% endfor %}')
{%- endmacro %}

{% macro postgres__json_node(json, path) -%}
    ({{ json }} #> '{{ '{' }}{{ path | join(',') }}{{ '}' }}')
{%- endmacro %}

{% macro redshift__json_node(json, path) -%}
    {{ json }}{% for step in path %}{% if step is number %}[{{ step }}]{% else %}."{{ step }}"{% endif %}{% endfor %}
{%- endmacro %}
