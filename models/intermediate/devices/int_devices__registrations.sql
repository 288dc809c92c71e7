with records as (
    select * from {{ ref('stg_ehr__devices') }}
),

-- the last word of the change log on each row of the registry
row_states as (
    select
        *,
        row_number() over (
            partition by row_id
            order by changed_at desc, log_sequence desc nulls last, _topic_id desc, _partition desc, _offset desc
        ) as position_from_last
    from records
    where row_id is not null
        and changed_at is not null
        and operation in ('c', 'r', 'u', 'd')
),

-- two rows for one device: the one that was changed last
device_states as (
    select
        *,
        row_number() over (
            partition by device_id
            order by changed_at desc, log_sequence desc nulls last, length(row_id) desc, {{ text_order('row_id') }} desc
        ) as row_rank
    from row_states
    where position_from_last = 1
        and operation <> 'd'
        and device_id is not null
)

select
    device_id,
    patient_id,
    model_type,
    manufacturer,
    serial_number,
    software_version,
    pressure_setting,
    flow_rate_setting,
    flow_level,
    changed_at
from device_states
where row_rank = 1
