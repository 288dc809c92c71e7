-- Each row returned is a merge, or an identifier that belongs to another, whose two ends landed in different
-- groups: a chain longer than the 64 steps that int_patients__groups follows.
with merge_events as (
    select * from {{ ref('int_patients__merges') }}
),

claims as (
    select * from {{ ref('int_patients__claims') }}
    where is_patient_identifier
),

patient_groups as (
    select * from {{ ref('int_patients__groups') }}
),

edges as (
    select
        message_sha256,
        prior_key as from_key,
        surviving_key as to_key
    from merge_events
    union all
    select
        message_sha256,
        identifier_key as from_key,
        owner_key as to_key
    from claims
)

select edges.message_sha256
from edges
inner join patient_groups as from_groups on edges.from_key = from_groups.identifier_key
inner join patient_groups as to_groups on edges.to_key = to_groups.identifier_key
where from_groups.group_key <> to_groups.group_key
    or from_groups.patient_key <> to_groups.patient_key
