with merge_events as (
    select * from {{ ref('int_patients__merges') }}
),

messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

adt_events as (
    select * from {{ ref('adt_events') }}
),

edges as (
    select
        prior_key as from_key,
        surviving_key as to_key
    from merge_events
    where prior_key <> surviving_key
),

{{ transitive_closure('edges', 6) }},

-- of a merge event, each MRG that names no patient or stands under a PID that names none
incomplete as (
    select
        segments.message_sha256,
        segments.segment_number,
        'incomplete' as issue
    from segments
    inner join messages on segments.message_sha256 = messages.message_sha256
    inner join adt_events
        on messages.trigger_event = adt_events.trigger_event
        and adt_events.patient_effect = 'merge'
    left join merge_events
        on segments.message_sha256 = merge_events.message_sha256
        and segments.segment_number = merge_events.segment_number
    where messages.message_type = 'ADT'
        and segments.segment_id = 'MRG'
        and merge_events.message_sha256 is null
),

self_merges as (
    select
        message_sha256,
        segment_number,
        'self_merge' as issue
    from merge_events
    where prior_key = surviving_key
),

loops as (
    select
        merge_events.message_sha256,
        merge_events.segment_number,
        'loop' as issue
    from merge_events
    inner join closure
        on merge_events.surviving_key = closure.from_key
        and merge_events.prior_key = closure.to_key
    where merge_events.prior_key <> merge_events.surviving_key
),

targets as (
    select
        prior_key,
        count(distinct surviving_key) as target_count
    from merge_events
    where prior_key <> surviving_key
    group by prior_key
),

conflicts as (
    select
        merge_events.message_sha256,
        merge_events.segment_number,
        'conflict' as issue
    from merge_events
    inner join targets on merge_events.prior_key = targets.prior_key
    where merge_events.prior_key <> merge_events.surviving_key
        and targets.target_count > 1
),

issues as (
    select * from incomplete
    union all
    select * from self_merges
    union all
    select * from loops
    union all
    select * from conflicts
)

select
    issues.message_sha256,
    issues.segment_number,
    issues.issue,
    messages.facility_id,
    messages.trigger_event,
    messages.message_at
from issues
inner join messages on issues.message_sha256 = messages.message_sha256
