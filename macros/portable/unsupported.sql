{% macro unsupported(macro_name) %}
    {{ exceptions.raise_compiler_error(
        "macro '" ~ macro_name ~ "' has no version for " ~ target.type ~ ": write " ~ target.type ~ "__" ~ macro_name
    ) }}
{% endmacro %}
