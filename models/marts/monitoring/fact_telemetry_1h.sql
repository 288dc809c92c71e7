with readings as (
    select * from {{ ref('int_telemetry__readings') }}
),

positioned as (
    select
        *,
        row_number() over (
            partition by device_id, patient_key, metric_name, unit, hour_at order by measured_at
        ) as position_from_first,
        row_number() over (
            partition by device_id, patient_key, metric_name, unit, hour_at order by measured_at desc
        ) as position_from_last
    from readings
),

hours as (
    select
        device_id,
        patient_key,
        patient_id,
        metric_name,
        unit,
        hour_at as window_start,
        hour_at + interval '1 hour' as window_end,
        count(*) as reading_count,
        -- the sum of decimals is exact, so the mean does not hang on the order of the readings
        cast(sum(metric_value) as double precision) / count(*) as avg_value,
        min(metric_value) as min_value,
        max(metric_value) as max_value,
        sum(metric_value) as sum_value,
        stddev_samp(cast(metric_value as double precision)) as stddev_value,
        max(case when position_from_first = 1 then metric_value end) as first_value,
        max(case when position_from_last = 1 then metric_value end) as last_value,
        sum(record_count) - count(*) as duplicate_count,
        count(
            case
                when kafka_arrived_at > hour_at + interval '1 hour' + interval '{{ var("late_after_minutes") }} minutes'
                    then 1
            end
        ) as late_count,
        round(3600.0 / max(cadence_seconds)) as expected_count
    from positioned
    group by device_id, patient_key, patient_id, metric_name, unit, hour_at
),

final as (
    select
        cast(
            {{ hash_key(['device_id', 'patient_key', 'metric_name', 'unit', timestamp_text('window_start')]) }}
            as varchar(65535)
        ) as telemetry_hour_key,
        cast(device_id as varchar(65535)) as device_id,
        cast(patient_key as varchar(65535)) as patient_key,
        cast(patient_id as varchar(65535)) as patient_id,
        cast(metric_name as varchar(65535)) as metric_name,
        cast(unit as varchar(65535)) as unit,
        cast(window_start as timestamp) as window_start,
        cast(window_end as timestamp) as window_end,
        cast(reading_count as bigint) as reading_count,
        cast(avg_value as double precision) as avg_value,
        cast(min_value as numeric(18, 6)) as min_value,
        cast(max_value as numeric(18, 6)) as max_value,
        cast(sum_value as double precision) as sum_value,
        cast(stddev_value as double precision) as stddev_value,
        cast(first_value as numeric(18, 6)) as first_value,
        cast(last_value as numeric(18, 6)) as last_value,
        cast(duplicate_count as bigint) as duplicate_count,
        cast(late_count as bigint) as late_count,
        cast(expected_count as integer) as expected_count,
        100 * cast(reading_count as double precision) / expected_count as coverage_pct
    from hours
)

select * from final
