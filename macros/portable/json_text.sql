{% macro json_text(json, path) %}{{ return(adapter.dispatch('json_text', 'clinical_data_warehouse')(json, path)) }}{% endmacro %}

{% macro default__json_text(json, path) %}{{ unsupported('json_text') }}{% endmacro %}

{% macro duckdb__json_text(json, path) -%}
    json_extract_string({{ json }}, '${% for step in path %}{% if step is number %}[{{ step }}]{% else %}."{{ step }}"{% endif %}{% endfor %}')
{%- endmacro %}

{% macro postgres__json_text(json, path) -%}
    ({{ json }} #>> '{{ '{' }}{{ path | join(',') }}{{ '}' }}')
{%- endmacro %}

{% macro redshift__json_text(json, path) -%}
    cast({{ json }}{% for step in path %}{% if step is number %}[{{ step }}]{% else %}."{{ step }}"{% endif %}{% endfor %} as varchar(65535))
{%- endmacro %}
