with spans as (
    select * from {{ ref('int_prescriptions__spans') }}
),

clock as (
    select * from {{ ref('int_telemetry__clock') }}
),

-- every instant at which something begins or ends for a patient, device and metric
edges as (
    select
        patient_key,
        device_id,
        metric_name,
        valid_from as edge_at
    from spans
    union
    select
        patient_key,
        device_id,
        metric_name,
        coalesce(valid_to, timestamp '9999-12-31') as edge_at
    from spans
),

segments as (
    select
        patient_key,
        device_id,
        metric_name,
        edge_at as segment_from,
        lead(edge_at) over (partition by patient_key, device_id, metric_name order by edge_at) as segment_to
    from edges
),

-- where several prescriptions cover a segment: the latest start date, then the latest change, then the highest id
contenders as (
    select
        spans.*,
        segments.segment_from,
        segments.segment_to,
        row_number() over (
            partition by segments.patient_key, segments.device_id, segments.metric_name, segments.segment_from
            order by
                spans.starts_at desc,
                spans.changed_at desc,
                length(spans.row_id) desc,
                {{ text_order('spans.row_id') }} desc,
                spans.log_position desc
        ) as precedence
    from segments
    inner join spans
        on segments.patient_key = spans.patient_key
        and segments.device_id = spans.device_id
        and segments.metric_name = spans.metric_name
        and segments.segment_from >= spans.valid_from
        and (segments.segment_from < spans.valid_to or spans.valid_to is null)
),

winners as (
    select
        *,
        {{ hash_key(['row_id', 'prescription_id', 'prescribed_value', 'tolerance']) }} as setting_key
    from contenders
    where precedence = 1
),

-- neighbouring segments of one and the same setting are one version
beside_previous as (
    select
        *,
        lag(segment_to) over (
            partition by patient_key, device_id, metric_name order by segment_from
        ) as previous_to,
        lag(setting_key) over (
            partition by patient_key, device_id, metric_name order by segment_from
        ) as previous_setting_key
    from winners
),

numbered as (
    select
        *,
        sum(
            case when previous_to = segment_from and previous_setting_key = setting_key then 0 else 1 end
        ) over (
            partition by patient_key, device_id, metric_name order by segment_from
            rows between unbounded preceding and current row
        ) as version_number
    from beside_previous
),

positioned as (
    select
        *,
        row_number() over (
            partition by patient_key, device_id, metric_name, version_number order by segment_from desc
        ) as position_from_last
    from numbered
),

versions as (
    select
        row_id,
        prescription_id,
        patient_key,
        patient_id,
        device_id,
        metric_name,
        prescribed_value,
        tolerance,
        min(segment_from) as valid_from,
        nullif(max(segment_to), timestamp '9999-12-31') as valid_to,
        -- the name of a therapy may change within a version: the last one is shown
        max(case when position_from_last = 1 then therapy end) as therapy
    from positioned
    group by
        row_id, prescription_id, patient_key, patient_id, device_id, metric_name, prescribed_value, tolerance,
        version_number
),

final as (
    select
        cast(
            {{ hash_key([
                'versions.row_id', 'versions.patient_key', 'versions.device_id', 'versions.metric_name',
                timestamp_text('versions.valid_from'),
            ]) }} as varchar(65535)
        ) as prescription_version_key,
        cast(versions.prescription_id as varchar(65535)) as prescription_id,
        cast(versions.patient_key as varchar(65535)) as patient_key,
        cast(versions.patient_id as varchar(65535)) as patient_id,
        cast(versions.device_id as varchar(65535)) as device_id,
        cast(versions.therapy as varchar(65535)) as therapy,
        cast(versions.metric_name as varchar(65535)) as metric_name,
        cast(versions.prescribed_value as numeric(18, 6)) as prescribed_value,
        cast(versions.tolerance as numeric(18, 6)) as tolerance,
        cast(versions.valid_from as timestamp) as valid_from,
        cast(versions.valid_to as timestamp) as valid_to,
        cast(
            coalesce(
                versions.valid_from <= clock.clock_at
                and (clock.clock_at < versions.valid_to or versions.valid_to is null),
                false
            ) as boolean
        ) as is_current
    from versions
    cross join clock
)

select * from final
