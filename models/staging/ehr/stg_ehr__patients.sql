{% set table = 'raw.healthcare_public_patients' %}

with records as (
    select * from {{ source('raw', 'healthcare_public_patients') }}
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
        {{ json_string('envelope', ['after', field_name(table, 'patient_id')]) }} as patient_id,
        {{ json_string('envelope', ['after', field_name(table, 'given_name')]) }} as given_name,
        {{ json_string('envelope', ['after', field_name(table, 'family_name')]) }} as family_name,
        {{ json_string('envelope', ['after', field_name(table, 'gender')]) }} as gender,
        {{ json_string('envelope', ['after', field_name(table, 'birth_date')]) }} as birth_date_text,
        {{ json_string('envelope', ['after', field_name(table, 'zip_code')]) }} as postal_code
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
        patient_id,
        given_name,
        family_name,
        gender,
        {{ parse_date('birth_date_text') }} as birth_date,
        postal_code
    from fields
)

select * from final
