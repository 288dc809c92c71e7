{#- hl7() for words that a person wrote: without the blanks around them, line feeds and tabs in them kept; NULL
    where they are empty or HL7's null. For what names something, hl7_code(). -#}
{% macro hl7_words(path, repetition=0) -%}
    nullif(nullif(trim({{ hl7(path, repetition) }}), ''), '""')
{%- endmacro %}
