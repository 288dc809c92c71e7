with identifiers as (
    select * from {{ ref('patient_identifiers') }}
),

attributes as (
    select * from {{ ref('int_patients__attributes') }}
),

devices as (
    select * from {{ ref('dim_devices') }}
),

prescriptions as (
    select * from {{ ref('dim_prescriptions') }}
),

patients as (
    select
        patient_key,
        max(case when is_surviving then identifier end) as patient_id,
        max(case when is_surviving then authority end) as assigning_authority,
        max(case when is_in_hl7 then 1 else 0 end) = 1 as is_in_hl7,
        max(case when is_in_ehr then 1 else 0 end) = 1 as is_in_ehr,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at
    from identifiers
    group by patient_key
),

-- the latest registry assignment, else the device of the latest reading
devices_of_patients as (
    select
        *,
        coalesce(patient_key, reported_patient_key) as holder_key
    from devices
),

ranked_devices as (
    select
        *,
        count(*) over (partition by holder_key) as device_count,
        row_number() over (
            partition by holder_key
            order by
                case when patient_key is not null then updated_at end desc nulls last,
                last_reading_at desc nulls last,
                {{ text_order('device_id') }}
        ) as device_rank
    from devices_of_patients
    where holder_key is not null
),

current_devices as (
    select * from ranked_devices
    where device_rank = 1
),

prescribed as (
    select
        patient_key,
        device_id,
        max(case when metric_name = 'Pressure' then prescribed_value end) as prescribed_pressure,
        max(case when metric_name = 'Pressure' then coalesce(tolerance, 0) end) as pressure_tolerance,
        max(case when metric_name = 'FlowRate' then prescribed_value end) as prescribed_flow_rate,
        max(case when metric_name = 'FlowRate' then coalesce(tolerance, 0) end) as flow_rate_tolerance,
        max(case when metric_name = 'FlowLevel' then prescribed_value end) as prescribed_flow_level,
        max(case when metric_name = 'FlowLevel' then coalesce(tolerance, 0) end) as flow_level_tolerance
    from prescriptions
    where is_current
    group by patient_key, device_id
),

final as (
    select
        cast(patients.patient_key as varchar(65535)) as patient_key,
        cast(patients.patient_id as varchar(65535)) as patient_id,
        cast(patients.assigning_authority as varchar(65535)) as assigning_authority,
        cast(attributes.family_name as varchar(65535)) as family_name,
        cast(attributes.given_name as varchar(65535)) as given_name,
        cast(attributes.birth_date as date) as birth_date,
        cast(attributes.sex as varchar(65535)) as sex,
        cast(attributes.postal_code as varchar(65535)) as postal_code,
        cast(patients.is_in_hl7 as boolean) as is_in_hl7,
        cast(patients.is_in_ehr as boolean) as is_in_ehr,
        cast(current_devices.device_id as varchar(65535)) as device_id,
        cast(coalesce(current_devices.device_count, 0) as bigint) as device_count,
        cast(current_devices.device_model as varchar(65535)) as device_model,
        cast(current_devices.device_serial_number as varchar(65535)) as device_serial_number,
        cast(current_devices.device_pressure as numeric(18, 6)) as device_pressure,
        cast(current_devices.device_flow_rate as numeric(18, 6)) as device_flow_rate,
        cast(current_devices.device_flow_level as numeric(18, 6)) as device_flow_level,
        cast(prescribed.prescribed_pressure as numeric(18, 6)) as prescribed_pressure,
        cast(prescribed.prescribed_flow_rate as numeric(18, 6)) as prescribed_flow_rate,
        cast(prescribed.prescribed_flow_level as numeric(18, 6)) as prescribed_flow_level,
        -- a prescribed setting of which the device says nothing is no match
        cast(
            case
                when prescribed.prescribed_pressure is not null
                    or prescribed.prescribed_flow_rate is not null
                    or prescribed.prescribed_flow_level is not null
                    then
                        (
                            prescribed.prescribed_pressure is null
                            or coalesce(
                                abs(current_devices.device_pressure - prescribed.prescribed_pressure)
                                <= prescribed.pressure_tolerance,
                                false
                            )
                        )
                        and (
                            prescribed.prescribed_flow_rate is null
                            or coalesce(
                                abs(current_devices.device_flow_rate - prescribed.prescribed_flow_rate)
                                <= prescribed.flow_rate_tolerance,
                                false
                            )
                        )
                        and (
                            prescribed.prescribed_flow_level is null
                            or coalesce(
                                abs(current_devices.device_flow_level - prescribed.prescribed_flow_level)
                                <= prescribed.flow_level_tolerance,
                                false
                            )
                        )
            end as boolean
        ) as is_settings_match,
        cast(patients.first_seen_at as timestamp) as first_seen_at,
        cast(coalesce(attributes.updated_at, patients.last_seen_at) as timestamp) as updated_at
    from patients
    left join attributes on patients.patient_key = attributes.patient_key
    left join current_devices on patients.patient_key = current_devices.holder_key
    left join prescribed
        on patients.patient_key = prescribed.patient_key
        and current_devices.device_id = prescribed.device_id
)

select * from final
