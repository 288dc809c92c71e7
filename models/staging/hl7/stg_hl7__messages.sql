{{ config(materialized='table') }}

with records as (
    select * from {{ ref('stg_hl7__records') }}
),

facility_time_zones as (
    select * from {{ ref('facility_time_zones') }}
),

headers as (
    select
        _topic_id,
        _partition,
        _offset,
        kafka_arrived_at,
        loaded_at,
        {{ json_string('meta', ['sha256']) }} as message_sha256,
        {{ json_string('meta', ['control_id']) }} as control_id,
        {{ json_string('meta', ['message_type']) }} as message_type,
        {{ json_string('meta', ['trigger_event']) }} as trigger_event,
        {{ json_string('meta', ['structure']) }} as message_structure,
        {{ json_string('meta', ['version']) }} as hl7_version,
        {{ json_string('meta', ['dictionary']) }} as dictionary_version,
        {{ json_string('meta', ['sending_application']) }} as sending_application,
        {{ json_string('meta', ['sending_facility']) }} as sending_facility,
        {{ json_string('meta', ['message_at']) }} as message_at_text,
        -- a facility may be named by its OID alone
        {{ hl7('MSH-4.2') }} as sending_facility_oid,
        {{ hl7('MSH-11.1') }} as processing_id,
        {{ hl7('MSH-13.1') }} as sequence_text,
        -- before v2.3.1 a sender may name the event in EVN alone
        case
            when {{ json_string('second_segment', ['id']) }} = 'EVN'
                then {{ json_string('second_segment', ['fields', '1', 0, '1']) }}
        end as event_code
    from records
),

cleaned as (
    select
        _topic_id,
        _partition,
        _offset,
        kafka_arrived_at,
        coalesce(kafka_arrived_at, loaded_at) as arrived_at,
        message_sha256,
        {{ hl7_clean('control_id') }} as control_id,
        upper({{ hl7_clean('message_type') }}) as message_type,
        upper(coalesce({{ hl7_clean('trigger_event') }}, {{ hl7_clean('event_code') }})) as trigger_event,
        {{ hl7_clean('message_structure') }} as message_structure,
        {{ hl7_clean('hl7_version') }} as hl7_version,
        dictionary_version,
        {{ hl7_clean('sending_application') }} as sending_application,
        coalesce({{ hl7_clean('sending_facility') }}, {{ hl7_clean('sending_facility_oid') }}) as facility_id,
        {{ hl7_clean('processing_id') }} as processing_id,
        message_at_text,
        {{ parse_bigint('sequence_text') }} as sequence_number
    from headers
    where {{ matches('message_sha256', '^[0-9a-f]{64}$') }}
),

ranked as (
    select
        cleaned.*,
        facility_time_zones.time_zone,
        row_number() over (
            partition by cleaned.message_sha256
            order by cleaned.arrived_at, {{ text_order('cleaned._topic_id') }}, cleaned._partition, cleaned._offset
        ) as delivery_number
    from cleaned
    left join facility_time_zones on cleaned.facility_id = facility_time_zones.facility_id
),

-- the same bytes twice are one message: the first to arrive is kept
final as (
    select
        cast(message_sha256 as varchar(65535)) as message_sha256,
        cast(_topic_id as varchar(65535)) as _topic_id,
        cast(_partition as integer) as _partition,
        cast(_offset as bigint) as _offset,
        cast(kafka_arrived_at as timestamp) as kafka_arrived_at,
        cast(arrived_at as timestamp) as arrived_at,
        cast(control_id as varchar(65535)) as control_id,
        cast(message_type as varchar(65535)) as message_type,
        cast(trigger_event as varchar(65535)) as trigger_event,
        cast(message_structure as varchar(65535)) as message_structure,
        cast(hl7_version as varchar(65535)) as hl7_version,
        cast(dictionary_version as varchar(65535)) as dictionary_version,
        cast(sending_application as varchar(65535)) as sending_application,
        cast(facility_id as varchar(65535)) as facility_id,
        cast(processing_id as varchar(65535)) as processing_id,
        cast(time_zone as varchar(65535)) as time_zone,
        cast({{ hl7_timestamp('message_at_text', 'time_zone') }} as timestamp) as message_at,
        cast({{ hl7_zone_is_assumed('message_at_text', 'time_zone') }} as boolean) as is_time_zone_assumed,
        cast(sequence_number as bigint) as sequence_number
    from ranked
    where delivery_number = 1
)

select * from final
