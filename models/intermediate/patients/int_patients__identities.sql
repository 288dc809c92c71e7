with messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

identifiers as (
    select * from {{ ref('stg_hl7__patient_identifiers') }}
),

adt_events as (
    select * from {{ ref('adt_events') }}
),

in_messages as (
    select
        identifiers.*,
        messages.message_type,
        messages.trigger_event,
        messages.facility_id,
        messages.message_at,
        messages.sequence_number,
        adt_events.patient_effect
    from identifiers
    inner join messages on identifiers.message_sha256 = messages.message_sha256
    left join adt_events
        on messages.message_type = 'ADT'
        and messages.trigger_event = adt_events.trigger_event
),

-- where an identifier moves, PID repeats it beside those of the patient it moves to
moved as (
    select distinct
        message_sha256,
        pid_number,
        identifier_key
    from in_messages
    where segment_id = 'MRG'
        and patient_effect = 'move_identifier'
),

-- MR, PI, PT, then the first with an id, then PID-2; never SS, DL, AN
ranked as (
    select
        in_messages.*,
        row_number() over (
            partition by in_messages.message_sha256, in_messages.segment_number
            order by
                case when in_messages.segment_id = 'PID' and moved.identifier_key is not null then 1 else 0 end,
                case when in_messages.field_number in (2, 4) then 1 else 0 end,
                in_messages.preference nulls last,
                in_messages.repetition_number
        ) as choice
    from in_messages
    left join moved
        on in_messages.message_sha256 = moved.message_sha256
        and in_messages.pid_number = moved.pid_number
        and in_messages.identifier_key = moved.identifier_key
    where in_messages.is_patient_identifier
)

select
    message_sha256,
    segment_number,
    segment_id,
    pid_number,
    identifier_key,
    authority,
    identifier,
    facility_id,
    trigger_event,
    patient_effect,
    message_at,
    sequence_number
from ranked
where choice = 1
