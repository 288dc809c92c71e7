{% set table = 'raw.healthcare_public_devices' %}

with records as (
    select * from {{ source('raw', 'healthcare_public_devices') }}
),

envelopes as (
    select
        _topic_id,
        _partition,
        _offset,
        {{ cdc_envelope('payload') }} as envelope
    from records
    where payload is not null
),

fields as (
    select
        _topic_id,
        _partition,
        _offset,
        {{ json_text('envelope', ['op']) }} as operation,
        {{ json_text('envelope', ['source', 'ts_ms']) }} as changed_at_text,
        {{ json_text('envelope', ['source', 'lsn']) }} as log_sequence_text,
        coalesce(
            {{ json_string('envelope', ['after', field_name(table, 'id')]) }},
            {{ json_string('envelope', ['before', field_name(table, 'id')]) }}
        ) as row_id,
        {{ json_string('envelope', ['after', field_name(table, 'device_id')]) }} as device_id,
        {{ json_string('envelope', ['after', field_name(table, 'patient_id')]) }} as patient_id,
        {{ json_string('envelope', ['after', field_name(table, 'model_type')]) }} as model_type,
        {{ json_string('envelope', ['after', field_name(table, 'manufacturer')]) }} as manufacturer,
        {{ json_string('envelope', ['after', field_name(table, 'serial_number')]) }} as serial_number,
        {{ json_string('envelope', ['after', field_name(table, 'software_version')]) }} as software_version,
        {{ json_text('envelope', ['after', field_name(table, 'pressure_setting')]) }} as pressure_setting_text,
        {{ json_text('envelope', ['after', field_name(table, 'flow_rate_setting')]) }} as flow_rate_setting_text,
        {{ json_text('envelope', ['after', field_name(table, 'flow_level')]) }} as flow_level_text
    from envelopes
),

final as (
    select
        _topic_id,
        _partition,
        _offset,
        row_id,
        operation,
        {{ parse_timestamp('changed_at_text') }} as changed_at,
        {{ parse_bigint('log_sequence_text') }} as log_sequence,
        device_id,
        patient_id,
        model_type,
        manufacturer,
        serial_number,
        software_version,
        {{ parse_number('pressure_setting_text') }} as pressure_setting,
        {{ parse_number('flow_rate_setting_text') }} as flow_rate_setting,
        {{ parse_number('flow_level_text') }} as flow_level
    from fields
)

select * from final
