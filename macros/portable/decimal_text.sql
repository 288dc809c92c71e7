{#- A numeric(18, 6) as people write it: 10.500000 is 10.5, 10.000000 is 10. -#}
{% macro decimal_text(number) -%}
    rtrim(rtrim(cast(cast({{ number }} as numeric(18, 6)) as varchar(65535)), '0'), '.')
{%- endmacro %}
