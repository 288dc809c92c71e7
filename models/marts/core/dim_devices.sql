with registrations as (
    select * from {{ ref('int_devices__registrations') }}
),

records as (
    select * from {{ ref('int_telemetry__records') }}
),

identifiers as (
    select * from {{ ref('patient_identifiers') }}
),

readings as (
    select
        *,
        row_number() over (
            partition by device_id
            order by measured_at desc, {{ text_order('metric_name') }}, {{ text_order('unit') }}
        ) as position_from_last
    from records
    where is_reading
),

heard as (
    select
        device_id,
        min(measured_at) as first_reading_at,
        max(measured_at) as last_reading_at,
        max(case when position_from_last = 1 then software_version end) as reported_software_version,
        max(case when position_from_last = 1 then patient_authority end) as reported_patient_authority,
        max(case when position_from_last = 1 then patient_id end) as reported_patient_id
    from readings
    group by device_id
),

-- a device that is registered but silent, or sends but is not registered, is a device all the same
devices as (
    select device_id from registrations
    union
    select device_id from heard
),

final as (
    select
        cast(devices.device_id as varchar(65535)) as device_id,
        cast(registered_patients.patient_key as varchar(65535)) as patient_key,
        cast(registered_patients.patient_id as varchar(65535)) as patient_id,
        cast(reporting_patients.patient_key as varchar(65535)) as reported_patient_key,
        cast(registrations.model_type as varchar(65535)) as device_model,
        cast(registrations.manufacturer as varchar(65535)) as manufacturer,
        cast(registrations.serial_number as varchar(65535)) as device_serial_number,
        cast(
            coalesce(heard.reported_software_version, registrations.software_version) as varchar(65535)
        ) as software_version,
        cast(registrations.pressure_setting as numeric(18, 6)) as device_pressure,
        cast(registrations.flow_rate_setting as numeric(18, 6)) as device_flow_rate,
        cast(registrations.flow_level as numeric(18, 6)) as device_flow_level,
        cast(registrations.device_id is not null as boolean) as is_registered,
        cast(registrations.changed_at as timestamp) as updated_at,
        cast(heard.first_reading_at as timestamp) as first_reading_at,
        cast(heard.last_reading_at as timestamp) as last_reading_at
    from devices
    left join registrations on devices.device_id = registrations.device_id
    left join heard on devices.device_id = heard.device_id
    left join identifiers as registered_patients
        on registered_patients.authority = '{{ var("ehr_patient_authority") }}'
        and registrations.patient_id = registered_patients.identifier
    left join identifiers as reporting_patients
        on heard.reported_patient_authority = reporting_patients.authority
        and heard.reported_patient_id = reporting_patients.identifier
)

select * from final
