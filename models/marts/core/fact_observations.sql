with observations as (
    select * from {{ ref('int_observations__current') }}
),

final as (
    select
        cast(observation_key as varchar(65535)) as observation_key,
        cast(patient_key as varchar(65535)) as patient_key,
        cast(patient_id as varchar(65535)) as patient_id,
        cast(facility_id as varchar(65535)) as facility_id,
        cast(order_number as varchar(65535)) as order_number,
        cast(code as varchar(65535)) as code,
        cast(code_text as varchar(65535)) as code_text,
        cast(code_system as varchar(65535)) as code_system,
        cast(sub_id as varchar(65535)) as sub_id,
        cast(observed_at as timestamp) as observed_at,
        cast(observed_at_precision as varchar(65535)) as observed_at_precision,
        cast(is_time_zone_assumed as boolean) as is_time_zone_assumed,
        cast(value_type as varchar(65535)) as value_type,
        cast(value_text as varchar(65535)) as value_text,
        cast(value_number as numeric(18, 6)) as value_number,
        cast(unit as varchar(65535)) as unit,
        cast(reference_range as varchar(65535)) as reference_range,
        cast(abnormal_flag as varchar(65535)) as abnormal_flag,
        cast(status as varchar(65535)) as status,
        cast(is_status_assumed as boolean) as is_status_assumed,
        cast(is_preliminary as boolean) as is_preliminary,
        cast(message_sha256 as varchar(65535)) as message_sha256,
        cast(segment_number as bigint) as segment_number
    from observations
)

select * from final
