with records as (
    select * from {{ ref('stg_devices__telemetry') }}
),

metrics as (
    select * from {{ ref('device_metrics') }}
),

conversions as (
    select * from {{ ref('unit_conversions') }}
),

-- a known metric is kept in its own unit; of an unknown one nothing is known, so nothing is changed
in_metric_unit as (
    select
        records.*,
        metrics.metric_name is not null as is_known_metric,
        case
            when metrics.metric_name is null then coalesce(records.unit, '')
            else metrics.unit
        end as stored_unit,
        case
            when metrics.metric_name is null or records.unit is null or records.unit = metrics.unit
                then records.metric_value
            else cast(records.metric_value as numeric(38, 6)) * conversions.factor + conversions.summand
        end as stored_value,
        metrics.metric_name is not null
        and records.unit <> metrics.unit
        and conversions.from_unit is null as is_unknown_unit
    from records
    left join metrics on records.metric_name = metrics.metric_name
    left join conversions
        on records.metric_name = conversions.metric_name
        and records.unit = conversions.from_unit
),

-- design section 8, reading: the first reason that applies
judged as (
    select
        *,
        case
            when device_id is null then 'no_device'
            when metric_name is null then 'no_metric'
            when measured_at_text is null then 'no_time'
            when measured_at is null then 'unreadable_time'
            when metric_value_text is null then 'no_value'
            when metric_value is null then 'no_number'
            when is_unknown_unit then 'unknown_unit'
            when abs(stored_value) >= 999999999999.9999995 then 'no_number'
            when measured_at > arrived_at + interval '{{ var("max_clock_ahead_minutes") }} minutes' then 'clock_ahead'
        end as reject_reason
    from in_metric_unit
),

-- of the records of one reading the highest sequence wins, any beats none; then the latest record
ranked as (
    select
        *,
        row_number() over (
            partition by device_id, metric_name, stored_unit, measured_at
            order by
                case when reject_reason is null then 0 else 1 end,
                sequence_number desc nulls last,
                arrived_at desc,
                _topic_id desc,
                _partition desc,
                _offset desc
        ) as record_rank,
        count(*) over (
            partition by
                device_id, metric_name, stored_unit, measured_at,
                case when reject_reason is null then 0 else 1 end
        ) as record_count
    from judged
),

final as (
    select
        cast(_topic_id as varchar(65535)) as _topic_id,
        cast(_partition as integer) as _partition,
        cast(_offset as bigint) as _offset,
        cast(kafka_arrived_at as timestamp) as kafka_arrived_at,
        cast(arrived_at as timestamp) as arrived_at,
        cast(device_id as varchar(65535)) as device_id,
        cast(patient_id as varchar(65535)) as patient_id,
        cast(metric_name as varchar(65535)) as metric_name,
        cast(stored_unit as varchar(65535)) as unit,
        cast(measured_at as timestamp) as measured_at,
        cast(date_trunc('hour', measured_at) as timestamp) as hour_at,
        cast(case when reject_reason is null then stored_value end as numeric(18, 6)) as metric_value,
        cast(software_version as varchar(65535)) as software_version,
        cast(sequence_number as bigint) as sequence_number,
        cast(is_known_metric as boolean) as is_known_metric,
        cast(reject_reason as varchar(65535)) as reject_reason,
        cast(reject_reason is null and record_rank = 1 as boolean) as is_reading,
        cast(case when reject_reason is null and record_rank = 1 then record_count end as bigint) as record_count
    from ranked
)

select * from final
