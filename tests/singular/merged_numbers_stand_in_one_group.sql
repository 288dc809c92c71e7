-- Each row returned is a merge of accounts or visits whose two numbers landed in different groups: a chain
-- longer than the 64 steps that int_encounters__numbers follows.
with moves as (
    select * from {{ ref('int_encounters__moves') }}
    where visit_effect in ('merge_account', 'merge_visit')
),

numbers as (
    select * from {{ ref('int_encounters__numbers') }}
)

select moves.message_sha256
from moves
inner join numbers as prior_numbers on moves.prior_key = prior_numbers.number_key
inner join numbers as surviving_numbers on moves.number_key = surviving_numbers.number_key
where prior_numbers.group_key <> surviving_numbers.group_key
