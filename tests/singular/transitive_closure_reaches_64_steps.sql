-- Each row returned is the far end of a chain of 64 steps that the closure does not reach from its begin, or
-- of one with a loop in it.
with chain as (
    {% for step in range(64) %}
    select '{{ step }}' as from_key, '{{ step + 1 }}' as to_key{% if not loop.last %} union all{% endif %}
    {% endfor %}
),

looped as (
    select from_key, to_key from chain
    union all
    select '64' as from_key, '63' as to_key
),

{{ transitive_closure('looped', 6) }},

ends as (
    select to_key from looped
    union
    select '64' as to_key
)

select ends.to_key
from ends
left join closure
    on closure.from_key = '0'
    and ends.to_key = closure.to_key
where closure.to_key is null
