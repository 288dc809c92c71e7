with readings as (
    select * from {{ ref('int_telemetry__readings') }}
),

-- a reading holds until the next one of its device and metric, for the gap at most, never past its hour
held as (
    select
        *,
        {{ microseconds_between(
            'measured_at',
            "least(
                coalesce(next_measured_at, hour_at + interval '1 hour'),
                measured_at + max_gap_minutes * interval '1 minute',
                hour_at + interval '1 hour'
            )"
        ) }} as held_microseconds
    from readings
),

hours as (
    select
        device_id,
        patient_key,
        patient_id,
        metric_name,
        unit,
        prescription_id,
        hour_at as window_start,
        hour_at + interval '1 hour' as window_end,
        count(*) as readings_total,
        count(case when verdict = 'in_range' then 1 end) as readings_in_range,
        count(case when verdict = 'above' then 1 end) as readings_above,
        count(case when verdict = 'below' then 1 end) as readings_below,
        sum(held_microseconds) as held_microseconds,
        sum(case when verdict = 'in_range' then held_microseconds else 0 end) as in_range_microseconds,
        max(prescription_version_key) is not null as is_assessed
    from held
    group by device_id, patient_key, patient_id, metric_name, unit, prescription_id, hour_at
),

final as (
    select
        cast(
            {{ hash_key([
                'device_id', 'patient_key', 'metric_name', 'unit', 'prescription_id', timestamp_text('window_start')
            ]) }} as varchar(65535)
        ) as compliance_hour_key,
        cast(device_id as varchar(65535)) as device_id,
        cast(patient_key as varchar(65535)) as patient_key,
        cast(patient_id as varchar(65535)) as patient_id,
        cast(metric_name as varchar(65535)) as metric_name,
        cast(unit as varchar(65535)) as unit,
        cast(prescription_id as varchar(65535)) as prescription_id,
        cast(window_start as timestamp) as window_start,
        cast(window_end as timestamp) as window_end,
        cast(case when is_assessed then 'assessed' else 'no_prescription' end as varchar(65535)) as assessment,
        cast(readings_total as bigint) as readings_total,
        cast(case when is_assessed then readings_in_range end as bigint) as readings_in_range,
        cast(case when is_assessed then readings_above end as bigint) as readings_above,
        cast(case when is_assessed then readings_below end as bigint) as readings_below,
        cast(
            case when is_assessed then 100 * cast(readings_in_range as double precision) / readings_total end
            as double precision
        ) as compliance_pct,
        cast(held_microseconds as double precision) / 1000000 as held_seconds,
        cast(case when is_assessed then in_range_microseconds end as double precision) / 1000000 as in_range_seconds,
        cast(
            case
                when is_assessed
                    then 100 * cast(in_range_microseconds as double precision)
                        / cast(held_microseconds as double precision)
            end as double precision
        ) as compliance_time_pct
    from hours
)

select * from final
