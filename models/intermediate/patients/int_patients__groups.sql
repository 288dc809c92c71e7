with identities as (
    select * from {{ ref('int_patients__identities') }}
),

merge_events as (
    select * from {{ ref('int_patients__merges') }}
),

claims as (
    select * from {{ ref('int_patients__claims') }}
),

sightings as (
    select * from {{ ref('int_patients__sightings') }}
),

-- identifiers under which something has been told about a patient; all others only lead to one of them
heads as (
    select identifier_key from identities
    union
    select identifier_key from sightings
    where source <> 'hl7'
),

head_claims as (
    select claims.*
    from claims
    inner join heads on claims.identifier_key = heads.identifier_key
    where claims.is_patient_identifier
),

edges as (
    select prior_key as from_key, surviving_key as to_key from merge_events
    where prior_key <> surviving_key
    union
    select surviving_key as from_key, prior_key as to_key from merge_events
    where prior_key <> surviving_key
    union
    select identifier_key as from_key, owner_key as to_key from head_claims
    union
    select owner_key as from_key, identifier_key as to_key from head_claims
),

{{ transitive_closure('edges', 6) }},

-- keys are hexadecimal, so that the least of them is the same in every collation
members as (
    select
        from_key as identifier_key,
        min(to_key) as group_key
    from closure
    group by from_key
),

group_merges as (
    select
        members.group_key,
        merge_events.surviving_key,
        row_number() over (
            partition by members.group_key
            order by
                merge_events.message_at desc nulls last,
                {{ text_order('merge_events.message_sha256') }} desc,
                merge_events.segment_number desc
        ) as position_from_last
    from merge_events
    inner join members on merge_events.surviving_key = members.identifier_key
    where merge_events.prior_key <> merge_events.surviving_key
),

first_sightings as (
    select
        identifier_key,
        min(first_seen_at) as first_seen_at
    from sightings
    group by identifier_key
),

-- without a merge: the identifier beside which the others stand, not one that stands beside another
group_members as (
    select
        members.group_key,
        members.identifier_key,
        row_number() over (
            partition by members.group_key
            order by
                case when head_claims.identifier_key is null then 0 else 1 end,
                first_sightings.first_seen_at nulls last,
                members.identifier_key
        ) as seniority
    from members
    left join head_claims on members.identifier_key = head_claims.identifier_key
    left join first_sightings on members.identifier_key = first_sightings.identifier_key
),

final as (
    select
        heads.identifier_key,
        coalesce(members.group_key, heads.identifier_key) as group_key,
        coalesce(group_merges.surviving_key, group_members.identifier_key, heads.identifier_key) as patient_key
    from heads
    left join members on heads.identifier_key = members.identifier_key
    left join group_merges
        on members.group_key = group_merges.group_key
        and group_merges.position_from_last = 1
    left join group_members
        on members.group_key = group_members.group_key
        and group_members.seniority = 1
)

select * from final
