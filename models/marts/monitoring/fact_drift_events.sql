with readings as (
    select * from {{ ref('int_telemetry__readings') }}
),

clock as (
    select * from {{ ref('int_telemetry__clock') }}
),

-- each reading beside its neighbours of the same device and metric
beside_neighbours as (
    select
        *,
        verdict in ('above', 'below') as is_out_of_range,
        measured_at + max_gap_minutes * interval '1 minute' as silent_from,
        lag(verdict) over (
            partition by device_id, metric_name, unit order by measured_at
        ) as previous_verdict,
        lag(prescription_version_key) over (
            partition by device_id, metric_name, unit order by measured_at
        ) as previous_version_key,
        lag(measured_at) over (
            partition by device_id, metric_name, unit order by measured_at
        ) as previous_measured_at,
        lead(prescription_version_key) over (
            partition by device_id, metric_name, unit order by measured_at
        ) as next_version_key
    from readings
),

-- an episode starts where the reading before it does not belong to the same run
numbered as (
    select
        *,
        sum(
            case
                when previous_verdict in ('above', 'below')
                    and previous_version_key = prescription_version_key
                    and measured_at <= previous_measured_at + max_gap_minutes * interval '1 minute'
                    then 0
                else 1
            end
        ) over (
            partition by device_id, metric_name, unit order by measured_at
            rows between unbounded preceding and current row
        ) as episode_number
    from beside_neighbours
    where is_out_of_range
),

ranked as (
    select
        *,
        min(measured_at) over (partition by device_id, metric_name, unit, episode_number) as started_at,
        row_number() over (
            partition by device_id, metric_name, unit, episode_number order by abs(deviation) desc, measured_at
        ) as peak_rank,
        row_number() over (
            partition by device_id, metric_name, unit, episode_number order by measured_at desc
        ) as position_from_last
    from numbered
),

episodes as (
    select
        device_id,
        patient_key,
        patient_id,
        metric_name,
        unit,
        prescription_version_key,
        prescription_id,
        prescribed_value,
        tolerance,
        started_at,
        max(measured_at) as last_reading_at,
        count(*) as reading_count,
        count(case when verdict = 'above' then 1 end) as readings_above,
        count(case when verdict = 'below' then 1 end) as readings_below,
        max(case when peak_rank = 1 then metric_value end) as peak_value,
        max(case when peak_rank = 1 then deviation end) as peak_deviation,
        min(
            case
                when measured_at > started_at + interval '{{ var("alert_after_minutes") }} minutes' then measured_at
            end
        ) as alert_raised_at,
        max(case when position_from_last = 1 then silent_from end) as silent_from,
        max(case when position_from_last = 1 then next_measured_at end) as next_measured_at,
        max(case when position_from_last = 1 then next_version_key end) as next_version_key
    from ranked
    group by
        device_id, patient_key, patient_id, metric_name, unit, prescription_version_key, prescription_id,
        prescribed_value, tolerance, episode_number, started_at
),

ended as (
    select
        episodes.*,
        case
            when coalesce(episodes.next_measured_at, clock.clock_at) > episodes.silent_from then 'gap'
            when episodes.next_measured_at is null then null
            when coalesce(episodes.next_version_key, '') <> episodes.prescription_version_key then 'prescription_change'
            else 'in_range'
        end as end_reason,
        cast({{ microseconds_between('episodes.started_at', 'episodes.last_reading_at') }} as double precision)
        / 60000000 as duration_minutes,
        case when episodes.peak_deviation > 0 then 'above' else 'below' end as direction
    from episodes
    cross join clock
),

final as (
    select
        cast(
            {{ hash_key(['device_id', 'metric_name', 'unit', timestamp_text('started_at')]) }} as varchar(65535)
        ) as drift_event_id,
        cast(prescription_version_key as varchar(65535)) as prescription_version_key,
        cast(device_id as varchar(65535)) as device_id,
        cast(patient_key as varchar(65535)) as patient_key,
        cast(patient_id as varchar(65535)) as patient_id,
        cast(metric_name as varchar(65535)) as metric_name,
        cast(unit as varchar(65535)) as unit,
        cast(prescription_id as varchar(65535)) as prescription_id,
        cast(prescribed_value as numeric(18, 6)) as prescribed_value,
        cast(tolerance as numeric(18, 6)) as tolerance,
        cast(started_at as timestamp) as started_at,
        cast(last_reading_at as timestamp) as last_reading_at,
        cast(
            case
                when end_reason = 'gap' then last_reading_at
                when end_reason is not null then next_measured_at
            end as timestamp
        ) as ended_at,
        cast(end_reason as varchar(65535)) as end_reason,
        cast(duration_minutes as double precision) as duration_minutes,
        cast(reading_count as bigint) as reading_count,
        cast(readings_above as bigint) as readings_above,
        cast(readings_below as bigint) as readings_below,
        cast(peak_value as numeric(18, 6)) as peak_value,
        cast(peak_deviation as numeric(20, 6)) as peak_deviation,
        cast(direction as varchar(65535)) as direction,
        cast(end_reason is null as boolean) as is_open,
        cast(alert_raised_at is not null as boolean) as is_alert,
        cast(alert_raised_at as timestamp) as alert_raised_at,
        cast(
            metric_name || ' ' || direction || ' its prescribed '
            || {{ decimal_text('prescribed_value') }} || ' ± ' || {{ decimal_text('coalesce(tolerance, 0)') }}
            || ' ' || unit || ' for ' || cast(cast(floor(duration_minutes) as integer) as varchar(65535))
            || ' min, furthest at ' || {{ decimal_text('peak_value') }}
            as varchar(65535)
        ) as message
    from ended
)

select * from final
