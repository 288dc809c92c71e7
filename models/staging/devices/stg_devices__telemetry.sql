{% set table = 'raw.device_telemetry' %}

with records as (
    select * from {{ source('raw', 'device_telemetry') }}
),

fields as (
    select
        _topic_id,
        _partition,
        _offset,
        _loaded_at,
        -- only a time that Kafka set when the record came in tells when it came in
        case when _timestamp_type = 'LogAppendTime' then _timestamp end as kafka_arrived_at,
        {{ json_string('payload', [field_name(table, 'device_id')]) }} as device_id,
        {{ json_string('payload', [field_name(table, 'patient_id')]) }} as patient_id,
        {{ json_string('payload', [field_name(table, 'metric_name')]) }} as metric_name,
        {{ json_text('payload', [field_name(table, 'ts')]) }} as measured_at_text,
        {{ json_text('payload', [field_name(table, 'metric_value')]) }} as metric_value_text,
        {{ json_string('payload', [field_name(table, 'unit')]) }} as unit,
        {{ json_string('payload', [field_name(table, 'software_version')]) }} as software_version,
        {{ json_text('payload', [field_name(table, 'sequence')]) }} as sequence_text
    from records
    where payload is not null
),

final as (
    select
        _topic_id,
        _partition,
        _offset,
        kafka_arrived_at,
        coalesce(kafka_arrived_at, _loaded_at) as arrived_at,
        device_id,
        patient_id,
        metric_name,
        measured_at_text,
        {{ parse_timestamp('measured_at_text') }} as measured_at,
        metric_value_text,
        {{ parse_number('metric_value_text') }} as metric_value,
        unit,
        software_version,
        {{ parse_bigint('sequence_text') }} as sequence_number
    from fields
)

select * from final
