{#- CTEs that give every pair (from_key, to_key) joined by a path of at most 2^rounds steps, as the last CTE
    "closure". relation has from_key and to_key; write it both ways round for connected groups. Each round
    joins the pairs so far with themselves, which doubles their reach: Redshift's recursive CTEs cannot
    leave out pairs already found, and would run round a loop without end. -#}
{% macro transitive_closure(relation, rounds) -%}
closure_0 as (
    select distinct from_key, to_key from {{ relation }}
),
{% for round in range(1, rounds + 1) %}
closure_{{ round }} as (
    select from_key, to_key from closure_{{ round - 1 }}
    union
    select near.from_key, far.to_key
    from closure_{{ round - 1 }} as near
    inner join closure_{{ round - 1 }} as far on near.to_key = far.from_key
),
{% endfor %}
closure as (
    select from_key, to_key from closure_{{ rounds }}
)
{%- endmacro %}
