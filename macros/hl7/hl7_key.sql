{#- The step under which a component stands in a decoded field: "5", "5.2"; the first subcomponent stands
    under the bare component, so 'PID-5.1' and 'PID-5.1.1' are the same value. -#}
{% macro hl7_key(component, subcomponent) -%}
    {{ return(component if subcomponent in (none, '', '1') else component ~ '.' ~ subcomponent) }}
{%- endmacro %}
