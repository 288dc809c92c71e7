{{ config(materialized='view') }}

with visits as (
    select * from {{ ref('stg_hl7__visits') }}
),

messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

adt_events as (
    select * from {{ ref('adt_events') }}
),

identities as (
    select * from {{ ref('int_patients__identities') }}
),

events as (
    select * from {{ ref('int_encounters__events') }}
),

-- every PV1 that should have told about an encounter
reported as (
    select
        visits.message_sha256,
        visits.segment_number,
        visits.pid_number,
        messages._topic_id,
        messages._partition,
        messages._offset
    from visits
    inner join messages on visits.message_sha256 = messages.message_sha256
    inner join adt_events on messages.trigger_event = adt_events.trigger_event
    where messages.message_type = 'ADT'
        and adt_events.encounter_effect is not null
)

select
    reported._topic_id,
    reported._partition,
    reported._offset,
    reported.message_sha256,
    reported.segment_number,
    case when identities.identifier_key is null then 'no_patient' else 'no_visit' end as reject_reason
from reported
left join events
    on reported.message_sha256 = events.message_sha256
    and reported.segment_number = events.segment_number
left join identities
    on reported.message_sha256 = identities.message_sha256
    and reported.pid_number = identities.segment_number
where events.message_sha256 is null
