with moves as (
    select * from {{ ref('int_encounters__moves') }}
    where visit_effect in ('merge_account', 'merge_visit')
        and prior_key <> number_key
),

edges as (
    select prior_key as from_key, number_key as to_key from moves
    union
    select number_key as from_key, prior_key as to_key from moves
),

{{ transitive_closure('edges', 6) }},

-- keys are hexadecimal, so that the least of them is the same in every collation
members as (
    select
        from_key as number_key,
        min(to_key) as group_key
    from closure
    group by from_key
),

last_moves as (
    select
        members.group_key,
        moves.number_key,
        moves.number,
        row_number() over (
            partition by members.group_key
            order by
                moves.message_at desc nulls last,
                {{ text_order('moves.message_sha256') }} desc,
                moves.segment_number desc
        ) as position_from_last
    from moves
    inner join members on moves.number_key = members.number_key
)

select
    members.number_key,
    members.group_key,
    last_moves.number_key as surviving_key,
    last_moves.number as surviving_number
from members
inner join last_moves
    on members.group_key = last_moves.group_key
    and last_moves.position_from_last = 1
