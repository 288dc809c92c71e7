{#- hl7() for a value that names something: see hl7_clean(). -#}
{% macro hl7_code(path, repetition=0) -%}
    {{ hl7_clean(hl7(path, repetition)) }}
{%- endmacro %}
