{% set table = 'raw.healthcare_public_prescriptions' %}

with records as (
    select * from {{ source('raw', 'healthcare_public_prescriptions') }}
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
        {{ json_string('envelope', ['after', field_name(table, 'prescription_id')]) }} as prescription_id,
        {{ json_string('envelope', ['after', field_name(table, 'patient_id')]) }} as patient_id,
        {{ json_string('envelope', ['after', field_name(table, 'device_id')]) }} as device_id,
        {{ json_string('envelope', ['after', field_name(table, 'medication_or_therapy')]) }} as therapy,
        {{ json_text('envelope', ['after', field_name(table, 'start_date')]) }} as starts_at_text,
        {{ json_text('envelope', ['after', field_name(table, 'end_date')]) }} as ends_at_text,
        -- JSON text inside JSON; its numbers become strings, so that no engine's JSON reader rounds them
        {{ regexp_replace_all(
            json_text('envelope', ['after', field_name(table, 'parameters')]),
            '("parameter_(value|tolerance)"\s*:\s*)(-?[0-9][0-9.eE+-]*)',
            '\\1"\\3"'
        ) }} as parameters_text
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
        prescription_id,
        patient_id,
        device_id,
        therapy,
        starts_at_text,
        {{ parse_timestamp('starts_at_text') }} as starts_at,
        ends_at_text,
        {{ parse_timestamp('ends_at_text') }} as ends_at,
        parameters_text
    from fields
)

select * from final
