{#- A surrogate key: md5 of its parts, joined by the unit separator (31), which no identifier can hold:
    the HL7 decoder refuses control characters and json_string() gives NULL for them. -#}
{% macro hash_key(parts) -%}
    md5({% for part in parts %}coalesce(cast({{ part }} as varchar(65535)), ''){% if not loop.last %} || chr(31) || {% endif %}{% endfor %})
{%- endmacro %}
