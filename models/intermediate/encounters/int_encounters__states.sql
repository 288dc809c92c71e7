with events as (
    select * from {{ ref('int_encounters__events') }}
),

moves as (
    select * from {{ ref('int_encounters__moves') }}
),

numbers as (
    select * from {{ ref('int_encounters__numbers') }}
),

ordered as (
    select
        *,
        row_number() over (
            partition by encounter_key
            order by
                message_at nulls first,
                sequence_number nulls first,
                arrived_at,
                {{ text_order('_topic_id') }},
                _partition,
                _offset,
                segment_number
        ) as event_number
    from events
),

transfers as (
    select
        encounter_key,
        event_number,
        lead(encounter_effect) over (partition by encounter_key order by event_number) as next_effect
    from ordered
    where encounter_effect in ('transfer', 'cancel_transfer')
),

-- what each event says; NULL where it says nothing
said as (
    select
        ordered.*,
        case
            -- a transfer that was taken back never was; an announcement is not yet
            when ordered.encounter_effect = 'note' then 0
            when ordered.encounter_effect = 'transfer' and transfers.next_effect = 'cancel_transfer' then 0
            when coalesce(ordered.point_of_care, ordered.room, ordered.bed) is null then 0
            else 1
        end as says_location,
        case
            when ordered.encounter_effect in ('discharge', 'cancel_discharge') then 1
            when ordered.encounter_effect = 'note' then 0
            when ordered.is_discharge_cleared or ordered.stated_discharged_at is not null then 1
            else 0
        end as says_discharge,
        case
            when ordered.encounter_effect = 'discharge' then coalesce(ordered.stated_discharged_at, ordered.event_at)
            when ordered.encounter_effect <> 'cancel_discharge' then ordered.stated_discharged_at
        end as said_discharged_at,
        case
            when ordered.encounter_effect = 'discharge' and ordered.stated_discharged_at is null
                then ordered.is_event_zone_assumed
            when ordered.encounter_effect <> 'cancel_discharge' and ordered.stated_discharged_at is not null
                then ordered.is_discharge_zone_assumed
        end as is_said_discharge_zone_assumed
    from ordered
    left join transfers
        on ordered.encounter_key = transfers.encounter_key
        and ordered.event_number = transfers.event_number
),

last_events as (
    select
        encounter_key,
        max(event_number) as last_event,
        max(case when class is not null then event_number end) as class_event,
        max(case when attending_provider_id is not null then event_number end) as attending_event,
        max(case when says_location = 1 then event_number end) as location_event,
        max(case when stated_admitted_at is not null then event_number end) as stated_admission_event,
        max(case when encounter_effect = 'admit' then event_number end) as admission_event,
        max(case when says_discharge = 1 then event_number end) as discharge_event,
        max(case when encounter_effect in ('admit', 'plan', 'cancel_admit') then event_number end) as begin_event,
        max(case when account_key is not null then event_number end) as account_event
    from said
    group by encounter_key
),

states as (
    select
        said.encounter_key,
        max(said.facility_id) as facility_id,
        max(case when said.event_number = last_events.last_event then said.visit_number end) as visit_number,
        max(case when said.event_number = last_events.last_event then said.patient_key end) as patient_key,
        max(case when said.event_number = last_events.last_event then said.message_at end) as last_message_at,
        max(case when said.event_number = last_events.class_event then said.class end) as class,
        max(case when said.event_number = last_events.attending_event then said.attending_provider_id end)
            as attending_provider_id,
        max(case when said.event_number = last_events.location_event then said.point_of_care end) as point_of_care,
        max(case when said.event_number = last_events.location_event then said.room end) as room,
        max(case when said.event_number = last_events.location_event then said.bed end) as bed,
        max(case when said.event_number = last_events.stated_admission_event then said.stated_admitted_at end)
            as stated_admitted_at,
        max(case when said.event_number = last_events.admission_event then said.event_at end) as admission_event_at,
        max(case when said.event_number = last_events.discharge_event then said.said_discharged_at end)
            as discharged_at,
        max(
            case
                when said.event_number = last_events.stated_admission_event and said.is_admission_zone_assumed then 1
                when last_events.stated_admission_event is null
                    and said.event_number = last_events.admission_event
                    and said.is_event_zone_assumed then 1
                when said.event_number = last_events.discharge_event and said.is_said_discharge_zone_assumed then 1
                else 0
            end
        ) = 1 as is_time_zone_assumed,
        max(
            case
                when said.event_number = last_events.begin_event and said.encounter_effect = 'cancel_admit' then 1
                else 0
            end
        ) = 1 as is_cancelled,
        max(case when said.event_number = last_events.account_event then said.account_key end) as account_key
    from said
    inner join last_events on said.encounter_key = last_events.encounter_key
    group by said.encounter_key
),

-- an account or visit that moves takes its patient from the latest of these messages
moved as (
    select
        moves.entity,
        coalesce(numbers.surviving_key, moves.prior_key) as moved_key,
        moves.patient_key,
        moves.message_at,
        row_number() over (
            partition by moves.entity, coalesce(numbers.surviving_key, moves.prior_key)
            order by
                moves.message_at desc nulls last,
                moves.sequence_number desc nulls last,
                {{ text_order('moves.message_sha256') }} desc,
                moves.segment_number desc
        ) as position_from_last
    from moves
    left join numbers on moves.prior_key = numbers.number_key
    where moves.visit_effect in ('move_account', 'move_visit')
        and moves.patient_key is not null
)

select
    states.encounter_key,
    states.facility_id,
    states.visit_number,
    case
        when moved_accounts.message_at >= states.last_message_at
            and moved_accounts.message_at >= coalesce(moved_visits.message_at, moved_accounts.message_at)
            then moved_accounts.patient_key
        when moved_visits.message_at >= states.last_message_at then moved_visits.patient_key
        else states.patient_key
    end as patient_key,
    states.class,
    coalesce(states.stated_admitted_at, states.admission_event_at) as admitted_at,
    states.discharged_at,
    states.is_cancelled,
    states.is_time_zone_assumed,
    states.point_of_care,
    states.room,
    states.bed,
    states.attending_provider_id
from states
left join moved as moved_visits
    on states.encounter_key = moved_visits.moved_key
    and moved_visits.entity = 'visit'
    and moved_visits.position_from_last = 1
left join moved as moved_accounts
    on states.account_key = moved_accounts.moved_key
    and moved_accounts.entity = 'account'
    and moved_accounts.position_from_last = 1
