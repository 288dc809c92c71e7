{{ config(materialized='view') }}

with patients as (
    select * from {{ ref('stg_ehr__patients') }}
),

devices as (
    select * from {{ ref('stg_ehr__devices') }}
),

prescriptions as (
    select * from {{ ref('stg_ehr__prescriptions') }}
),

-- what each kind of row must name; a prescription's further needs are int_prescriptions__rejects' business
records as (
    select
        'patients' as ehr_table,
        _topic_id,
        _partition,
        _offset,
        row_id,
        operation,
        changed_at,
        case when patient_id is null then 'no_patient' end as missing
    from patients
    union all
    select
        'devices' as ehr_table,
        _topic_id,
        _partition,
        _offset,
        row_id,
        operation,
        changed_at,
        case when device_id is null then 'no_device' end as missing
    from devices
    union all
    select
        'prescriptions' as ehr_table,
        _topic_id,
        _partition,
        _offset,
        row_id,
        operation,
        changed_at,
        cast(null as varchar(65535)) as missing
    from prescriptions
),

judged as (
    select
        ehr_table,
        _topic_id,
        _partition,
        _offset,
        case
            when operation is null or operation not in ('c', 'r', 'u', 'd') then 'no_row_change'
            when row_id is null then 'no_row'
            when changed_at is null then 'no_change_time'
            -- a deletion may carry the row's id alone
            when operation <> 'd' then missing
        end as reject_reason
    from records
)

select
    ehr_table,
    _topic_id,
    _partition,
    _offset,
    reject_reason
from judged
where reject_reason is not null
