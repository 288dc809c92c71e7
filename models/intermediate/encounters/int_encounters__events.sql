with visits as (
    select * from {{ ref('stg_hl7__visits') }}
),

messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

adt_events as (
    select * from {{ ref('adt_events') }}
),

event_segments as (
    select * from {{ ref('stg_hl7__events') }}
),

hl7_patients as (
    select * from {{ ref('stg_hl7__patients') }}
),

identities as (
    select * from {{ ref('int_patients__identities') }}
),

identifiers as (
    select * from {{ ref('patient_identifiers') }}
),

numbers as (
    select * from {{ ref('int_encounters__numbers') }}
),

first_events as (
    select
        *,
        row_number() over (partition by message_sha256 order by segment_number) as event_position
    from event_segments
),

joined as (
    select
        visits.*,
        messages.facility_id,
        messages.time_zone,
        messages.message_at,
        messages.is_time_zone_assumed as is_message_zone_assumed,
        messages.sequence_number,
        messages.arrived_at,
        messages._topic_id,
        messages._partition,
        messages._offset,
        messages.trigger_event,
        adt_events.encounter_effect,
        identifiers.patient_key,
        hl7_patients.account_number,
        case
            when {{ hl7_is_time('first_events.occurred_at_text') }} then first_events.occurred_at_text
            else first_events.recorded_at_text
        end as event_at_text
    from visits
    inner join messages on visits.message_sha256 = messages.message_sha256
    inner join adt_events
        on messages.trigger_event = adt_events.trigger_event
        and adt_events.encounter_effect is not null
    inner join identities
        on visits.message_sha256 = identities.message_sha256
        and visits.pid_number = identities.segment_number
    inner join identifiers on identities.identifier_key = identifiers.identifier_key
    left join hl7_patients
        on visits.message_sha256 = hl7_patients.message_sha256
        and visits.pid_number = hl7_patients.segment_number
    left join first_events
        on visits.message_sha256 = first_events.message_sha256
        and first_events.event_position = 1
    where messages.message_type = 'ADT'
),

timed as (
    select
        *,
        {{ hl7_timestamp('admitted_at_text', 'time_zone') }} as stated_admitted_at,
        {{ hl7_timestamp('discharged_at_text', 'time_zone') }} as stated_discharged_at,
        coalesce({{ hl7_timestamp('event_at_text', 'time_zone') }}, message_at) as event_at,
        {{ hl7_zone_is_assumed('admitted_at_text', 'time_zone') }} as is_admission_zone_assumed,
        coalesce({{ hl7_zone_is_assumed('discharged_at_text', 'time_zone') }}, false) as is_discharge_zone_assumed,
        case
            when {{ hl7_is_time('event_at_text') }} then {{ hl7_zone_is_assumed('event_at_text', 'time_zone') }}
            else is_message_zone_assumed
        end as is_event_zone_assumed
    from joined
),

keyed as (
    select
        *,
        {{ hash_key(["'visit'", 'facility_id', 'visit_number']) }} as visit_key,
        {{ hash_key(["'account'", 'facility_id', 'account_number']) }} as account_key,
        -- a stay without a number is told from the patient's others by when it began
        coalesce(stated_admitted_at, case when encounter_effect = 'admit' then event_at end) as unnumbered_from
    from timed
),

final as (
    select
        keyed.message_sha256,
        keyed.segment_number,
        case
            when keyed.visit_number is not null
                then coalesce(visit_numbers.surviving_key, keyed.visit_key)
            when keyed.unnumbered_from is not null
                then {{ hash_key([
                    "'stay'", 'keyed.facility_id', 'keyed.patient_key', timestamp_text('keyed.unnumbered_from'),
                ]) }}
        end as encounter_key,
        keyed.facility_id,
        coalesce(visit_numbers.surviving_number, keyed.visit_number) as visit_number,
        case
            when keyed.account_number is not null then coalesce(account_numbers.surviving_key, keyed.account_key)
        end as account_key,
        keyed.patient_key,
        keyed.trigger_event,
        keyed.encounter_effect,
        keyed.class,
        keyed.point_of_care,
        keyed.room,
        keyed.bed,
        keyed.attending_provider_id,
        keyed.stated_admitted_at,
        keyed.stated_discharged_at,
        keyed.discharged_at_text = '""' as is_discharge_cleared,
        keyed.event_at,
        keyed.is_admission_zone_assumed,
        keyed.is_discharge_zone_assumed,
        keyed.is_event_zone_assumed,
        keyed.message_at,
        keyed.sequence_number,
        keyed.arrived_at,
        keyed._topic_id,
        keyed._partition,
        keyed._offset
    from keyed
    left join numbers as visit_numbers on keyed.visit_key = visit_numbers.number_key
    left join numbers as account_numbers on keyed.account_key = account_numbers.number_key
)

select * from final
where encounter_key is not null
