{#- hl7() for an attribute that a sender can clear: NULL where it says nothing, '""' (HL7's null) where it
    clears the value. A null for the whole field clears all of its components. -#}
{% macro hl7_attribute(path) -%}
    case
        when trim({{ hl7(path) }}) <> '' then trim({{ hl7(path) }})
        when {{ hl7(path.split('.')[0]) }} = '""' then '""'
    end
{%- endmacro %}
