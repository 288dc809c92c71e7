{{ config(materialized='table') }}

{%- set attributes = ['phase', 'state', 'inactivation_state', 'priority', 'type', 'text'] -%}

with segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

observations as (
    select * from {{ ref('stg_hl7__observations') }}
),

participations as (
    select * from {{ ref('stg_hl7__participations') }}
),

alarm_attributes as (
    select * from {{ ref('mdc_alarm_attributes') }}
),

alarm_messages as (
    select * from messages
    where message_type = 'ORU'
        and trigger_event = 'R40'
),

requests as (
    select
        segments.message_sha256,
        segments.segment_number,
        segments.pid_number,
        {{ hl7_code('OBR-3.1') }} as filler_id,
        {{ hl7_code('OBR-3.2') }} as filler_namespace,
        {{ hl7_code('OBR-3.3') }} as filler_universal_id,
        {{ hl7_code('OBR-29.2.1') }} as parent_id,
        {{ hl7_code('OBR-29.2.2') }} as parent_namespace,
        {{ hl7_code('OBR-29.2.3') }} as parent_universal_id,
        {{ hl7_code('OBR-7') }} as requested_at_text,
        alarm_messages.facility_id,
        alarm_messages.time_zone
    from segments
    inner join alarm_messages on segments.message_sha256 = alarm_messages.message_sha256
    where segments.segment_id = 'OBR'
),

-- IHE PCD-04: one OBX a facet of the alarm, told apart by its code, and in OBX-4 by the number after the place of
-- its source in the device (1.2.3.4.1): 1 is the event, 2 its source
facets as (
    select
        observations.*,
        alarm_attributes.attribute,
        case
            when alarm_attributes.attribute is not null then alarm_attributes.attribute
            when {{ matches("coalesce(observations.code_text, '')", '^[A-Z0-9]+_EVT_') }} then 'event'
            when {{ matches("coalesce(observations.code, '')", '^[A-Z0-9]+_EVT_') }} then 'event'
            when {{ matches('observations.sub_id', '^[0-9]+([.][0-9]+){3}[.]1$') }} then 'event'
            when {{ matches('observations.sub_id', '^[0-9]+([.][0-9]+){3}[.]2$') }} then 'source'
        end as facet
    from observations
    inner join alarm_messages on observations.message_sha256 = alarm_messages.message_sha256
    left join alarm_attributes on alarm_attributes.reference_id in (observations.code_text, observations.code)
),

ranked_facets as (
    select
        *,
        row_number() over (
            partition by message_sha256, obr_number, facet order by segment_number
        ) as facet_rank
    from facets
    where facet is not null
),

facets_of_alarms as (
    select
        message_sha256,
        obr_number,
        max(case when facet = 'event' then segment_number end) as event_segment_number,
        max(case when facet = 'event' then code end) as event_code,
        max(case when facet = 'event' then code_text end) as event_code_text,
        max(case when facet = 'event' then value_1 end) as event_text,
        max(case when facet = 'event' then observed_at_text end) as event_at_text,
        -- a technical alarm names its source in an attribute, one about a measurement gives that measurement
        max(case when facet = 'source' then case when attribute is null then code else value_1 end end) as source_code,
        max(case when facet = 'source' then case when attribute is null then code_text else value_2 end end)
            as source_code_text,
        max(case when facet = 'source' and attribute is null then value_1 end) as source_value,
        max(case when facet = 'source' and attribute is null then coalesce(unit_text, unit) end) as source_unit,
        max(case when facet = 'source' and attribute is null then reference_range end) as source_limits,
        {% for attribute in attributes %}
        max(case when facet = '{{ attribute }}' then trim(value_1) end) as {{ attribute }}_text
        {%- if not loop.last %},{% endif %}
        {% endfor %}
    from ranked_facets
    where facet_rank = 1
    group by message_sha256, obr_number
),

-- priority and type may stand among the flags (OBX-8) of the event instead
event_flags as (
    select
        segments.message_sha256,
        segments.segment_number,
        {{ json_node('segments.fields', ['8']) }} as flags
    from segments
    inner join facets_of_alarms
        on segments.message_sha256 = facets_of_alarms.message_sha256
        and segments.segment_number = facets_of_alarms.event_segment_number
),

repeated_flags as (
    {{ unnest_json_array('event_flags', 'flags', 'repetition', 'repetition_number') }}
),

flags as (
    select
        message_sha256,
        segment_number,
        upper(trim({{ hl7_text('repetition', ['1']) }})) as flag
    from repeated_flags
),

flags_of_events as (
    select
        message_sha256,
        segment_number,
        max(case when flag in ('PN', 'PL', 'PM', 'PH') then flag end) as priority,
        max(case when flag in ('SA', 'SP', 'ST') then flag end) as alarm_type
    from flags
    group by message_sha256, segment_number
),

named_devices as (
    select
        message_sha256,
        obr_number,
        device_id,
        1 as preference,
        segment_number
    from observations
    union all
    select
        message_sha256,
        obr_number,
        device_id,
        2 as preference,
        segment_number
    from participations
    where coalesce(role_code, 'EQUIP') = 'EQUIP'
),

ranked_devices as (
    select
        *,
        row_number() over (
            partition by message_sha256, obr_number order by preference, segment_number
        ) as device_rank
    from named_devices
    where device_id is not null
),

cut_requests as (
    select distinct
        message_sha256,
        obr_number
    from observations
    where is_cut
),

timed as (
    select
        requests.*,
        facets_of_alarms.event_code,
        facets_of_alarms.event_code_text,
        facets_of_alarms.event_text,
        facets_of_alarms.source_code,
        facets_of_alarms.source_code_text,
        facets_of_alarms.source_value,
        facets_of_alarms.source_unit,
        facets_of_alarms.source_limits,
        {% for attribute in attributes %}
        facets_of_alarms.{{ attribute }}_text,
        {% endfor %}
        ranked_devices.device_id,
        flags_of_events.priority as flagged_priority,
        flags_of_events.alarm_type as flagged_type,
        cut_requests.obr_number is not null as is_cut,
        case
            when {{ hl7_is_time('facets_of_alarms.event_at_text') }} then facets_of_alarms.event_at_text
            else requests.requested_at_text
        end as alarm_at_text
    from requests
    left join facets_of_alarms
        on requests.message_sha256 = facets_of_alarms.message_sha256
        and requests.segment_number = facets_of_alarms.obr_number
    left join flags_of_events
        on facets_of_alarms.message_sha256 = flags_of_events.message_sha256
        and facets_of_alarms.event_segment_number = flags_of_events.segment_number
    left join ranked_devices
        on requests.message_sha256 = ranked_devices.message_sha256
        and requests.segment_number = ranked_devices.obr_number
        and ranked_devices.device_rank = 1
    left join cut_requests
        on requests.message_sha256 = cut_requests.message_sha256
        and requests.segment_number = cut_requests.obr_number
),

final as (
    select
        message_sha256,
        segment_number,
        pid_number,
        facility_id,
        is_cut,
        -- an update names the alarm that it goes on with as its parent; the first message of an alarm has none
        case
            when coalesce(parent_id, parent_namespace) is not null
                then {{ hash_key(['facility_id', 'parent_id', 'parent_namespace', 'parent_universal_id']) }}
            when coalesce(filler_id, filler_namespace) is not null
                then {{ hash_key(['facility_id', 'filler_id', 'filler_namespace', 'filler_universal_id']) }}
        end as alarm_key,
        filler_id,
        filler_namespace,
        parent_id,
        parent_namespace,
        device_id,
        event_code,
        event_code_text,
        coalesce(event_text, text_text) as alarm_text,
        source_code,
        source_code_text,
        source_value,
        source_unit,
        source_limits,
        lower(phase_text) as event_phase,
        lower(state_text) as alarm_state,
        lower(inactivation_state_text) as inactivation_state,
        upper(coalesce(priority_text, flagged_priority)) as alarm_priority,
        upper(coalesce(type_text, flagged_type)) as alarm_type,
        alarm_at_text,
        {{ hl7_timestamp('alarm_at_text', 'time_zone') }} as alarm_at,
        requested_at_text as reported_at_text,
        {{ hl7_timestamp('requested_at_text', 'time_zone') }} as reported_at,
        {{ hl7_zone_is_assumed('alarm_at_text', 'time_zone') }}
        or {{ hl7_zone_is_assumed('requested_at_text', 'time_zone') }} as is_time_zone_assumed
    from timed
)

select * from final
