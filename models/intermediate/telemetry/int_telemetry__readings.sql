with records as (
    select * from {{ ref('int_telemetry__records') }}
),

identifiers as (
    select * from {{ ref('patient_identifiers') }}
),

prescriptions as (
    select * from {{ ref('dim_prescriptions') }}
),

metrics as (
    select * from {{ ref('device_metrics') }}
),

readings as (
    select
        records.device_id,
        identifiers.patient_key,
        identifiers.patient_id,
        records.metric_name,
        records.unit,
        records.measured_at,
        records.hour_at,
        records.metric_value,
        records.record_count,
        records.kafka_arrived_at,
        metrics.cadence_seconds,
        coalesce(metrics.drift_max_gap_minutes, {{ var('drift_max_gap_minutes') }}) as max_gap_minutes
    from records
    left join identifiers
        on records.patient_authority = identifiers.authority
        and records.patient_id = identifiers.identifier
    left join metrics on records.metric_name = metrics.metric_name
    where records.is_reading
),

-- at most one version is in force for a patient, device and metric at any instant
under_prescription as (
    select
        readings.*,
        prescriptions.prescription_version_key,
        prescriptions.prescription_id,
        prescriptions.prescribed_value,
        prescriptions.tolerance,
        cast(readings.metric_value as numeric(20, 6)) - prescriptions.prescribed_value as deviation
    from readings
    left join prescriptions
        on readings.patient_key = prescriptions.patient_key
        and readings.device_id = prescriptions.device_id
        and readings.metric_name = prescriptions.metric_name
        and readings.measured_at >= prescriptions.valid_from
        and (readings.measured_at < prescriptions.valid_to or prescriptions.valid_to is null)
),

final as (
    select
        device_id,
        patient_key,
        patient_id,
        metric_name,
        unit,
        measured_at,
        hour_at,
        metric_value,
        record_count,
        kafka_arrived_at,
        cadence_seconds,
        max_gap_minutes,
        prescription_version_key,
        prescription_id,
        prescribed_value,
        tolerance,
        deviation,
        case
            when prescription_version_key is null then 'no_prescription'
            when deviation > coalesce(tolerance, 0) then 'above'
            when deviation < -coalesce(tolerance, 0) then 'below'
            else 'in_range'
        end as verdict,
        -- the next reading of the device and metric, whoever the patient
        lead(measured_at) over (partition by device_id, metric_name, unit order by measured_at) as next_measured_at
    from under_prescription
)

select * from final
