{#- The value at an HL7 path, as sent, from a segment's column "fields": hl7('PID-5.1'), hl7('CX-4.2').
    A field alone means its first component; the first repetition where no other is asked for (from 0).
    Rows must be segments of that kind: the name is for the reader. NULL where the value is absent or was
    replaced by its hash; HL7's null stays two quotation marks. -#}
{% macro hl7(path, repetition=0) -%}
    {%- set parts = modules.re.match('^[A-Z][A-Z0-9]{2}-([0-9]+)(?:[.]([0-9]+)(?:[.]([0-9]+))?)?$', path) -%}
    {%- if not parts -%}
        {{ exceptions.raise_compiler_error("hl7('" ~ path ~ "'): a path is like PID-5, PID-5.1 or PID-3.4.2") }}
    {%- endif -%}
    {{ hl7_text('fields', [parts.group(1), repetition, hl7_key(parts.group(2) or '1', parts.group(3))]) }}
{%- endmacro %}
