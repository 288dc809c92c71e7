with merge_segments as (
    select * from {{ ref('stg_hl7__merges') }}
),

messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

adt_events as (
    select * from {{ ref('adt_events') }}
),

hl7_patients as (
    select * from {{ ref('stg_hl7__patients') }}
),

visits as (
    select * from {{ ref('stg_hl7__visits') }}
),

identities as (
    select * from {{ ref('int_patients__identities') }}
),

identifiers as (
    select * from {{ ref('patient_identifiers') }}
),

-- the visit that stands first below each PID
first_visits as (
    select
        message_sha256,
        pid_number,
        visit_number,
        row_number() over (partition by message_sha256, pid_number order by segment_number) as visit_position
    from visits
),

moves as (
    select
        merge_segments.message_sha256,
        merge_segments.segment_number,
        messages.message_at,
        messages.sequence_number,
        adt_events.visit_effect,
        case
            when adt_events.visit_effect in ('merge_account', 'move_account') then 'account'
            else 'visit'
        end as entity,
        messages.facility_id,
        identifiers.patient_key,
        merge_segments.prior_account_number,
        merge_segments.prior_visit_number,
        hl7_patients.account_number,
        first_visits.visit_number
    from merge_segments
    inner join messages on merge_segments.message_sha256 = messages.message_sha256
    inner join adt_events
        on messages.trigger_event = adt_events.trigger_event
        and adt_events.visit_effect is not null
    left join hl7_patients
        on merge_segments.message_sha256 = hl7_patients.message_sha256
        and merge_segments.pid_number = hl7_patients.segment_number
    left join first_visits
        on merge_segments.message_sha256 = first_visits.message_sha256
        and merge_segments.pid_number = first_visits.pid_number
        and first_visits.visit_position = 1
    left join identities
        on merge_segments.message_sha256 = identities.message_sha256
        and merge_segments.pid_number = identities.segment_number
    left join identifiers on identities.identifier_key = identifiers.identifier_key
    where messages.message_type = 'ADT'
),

numbered as (
    select
        message_sha256,
        segment_number,
        message_at,
        sequence_number,
        visit_effect,
        entity,
        facility_id,
        patient_key,
        case when entity = 'account' then prior_account_number else prior_visit_number end as prior_number,
        case when entity = 'account' then account_number else visit_number end as number
    from moves
)

select
    message_sha256,
    segment_number,
    message_at,
    sequence_number,
    visit_effect,
    entity,
    patient_key,
    {{ hash_key(['entity', 'facility_id', 'prior_number']) }} as prior_key,
    case when number is not null then {{ hash_key(['entity', 'facility_id', 'number']) }} end as number_key,
    number
from numbered
where prior_number is not null
