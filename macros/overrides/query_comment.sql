{#- Says in the warehouse's query log which model a statement belongs to. -#}
{% macro query_comment(node) %}
    {%- set comment = {'app': 'dbt', 'project': 'clinical_data_warehouse', 'invocation_id': invocation_id, 'target': target.name} -%}
    {%- if node is not none -%}
        {%- do comment.update({'node_id': node.unique_id}) -%}
    {%- endif -%}
    {{ return(tojson(comment)) }}
{% endmacro %}
