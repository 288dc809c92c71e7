with records as (
    select * from {{ ref('stg_ehr__prescriptions') }}
),

identifiers as (
    select * from {{ ref('patient_identifiers') }}
),

-- a record without a row, a time or an operation of a row's life tells nothing (truncates, messages, garbage)
row_changes as (
    select
        *,
        operation = 'd' as is_deletion,
        row_number() over (
            partition by row_id, log_sequence, operation
            order by changed_at, _topic_id, _partition, _offset
        ) as delivery_number
    from records
    where row_id is not null
        and changed_at is not null
        and operation in ('c', 'r', 'u', 'd')
),

delivered_once as (
    select
        *,
        -- what the change left in the row; NULL when it left nothing
        case
            when not is_deletion
                then {{ hash_key([
                    'prescription_id', 'patient_id', 'device_id', 'therapy',
                    'starts_at_text', 'ends_at_text', 'parameters_text',
                ]) }}
        end as content_hash,
        row_number() over (
            partition by row_id
            order by changed_at, log_sequence nulls first, _topic_id, _partition, _offset
        ) as log_position
    from row_changes
    where delivery_number = 1
        or log_sequence is null
),

beside_previous as (
    select
        *,
        lag(content_hash) over (partition by row_id order by log_position) as previous_content_hash
    from delivered_once
),

-- a repeated snapshot, or an update that left the row as it was, is no change
real_changes as (
    select *
    from beside_previous
    where log_position = 1
        or coalesce(content_hash, '') <> coalesce(previous_content_hash, '')
),

parsed as (
    select
        *,
        {{ parse_json('parameters_text') }} as parameters
    from real_changes
),

final as (
    select
        parsed._topic_id,
        parsed._partition,
        parsed._offset,
        parsed.row_id,
        parsed.prescription_id,
        identifiers.patient_key,
        identifiers.patient_id,
        parsed.device_id,
        parsed.therapy,
        parsed.is_deletion,
        parsed.changed_at,
        parsed.log_position,
        row_number() over (partition by parsed.row_id order by parsed.log_position) = 1 as is_first_version,
        lead(parsed.changed_at) over (partition by parsed.row_id order by parsed.log_position) as next_changed_at,
        parsed.starts_at,
        parsed.ends_at,
        parsed.parameters,
        -- what keeps the change from saying what is prescribed: no prescription is safer than a wrong one
        case
            when parsed.is_deletion then null
            when parsed.prescription_id is null then 'no_prescription_id'
            when identifiers.patient_key is null then 'no_patient'
            when parsed.device_id is null then 'no_device'
            when parsed.starts_at is null and parsed.starts_at_text is not null then 'unreadable_start_date'
            when parsed.ends_at is null and parsed.ends_at_text is not null then 'unreadable_end_date'
            when parsed.parameters is null then 'unreadable_parameters'
            when {{ json_kind('parsed.parameters') }} <> 'array' then 'unreadable_parameters'
        end as reject_reason
    from parsed
    left join identifiers
        on identifiers.authority = '{{ var("ehr_patient_authority") }}'
        and parsed.patient_id = identifiers.identifier
)

select * from final
