with vitals as (
    select * from {{ ref('int_observations__vitals') }}
    where reject_reason is null
        and is_measured
),

-- one value for a patient, vital and time: the preferred code, then the one that was observed under the least key
ranked as (
    select
        *,
        row_number() over (
            partition by patient_key, vital_name, observed_at
            order by
                preference,
                case when is_preliminary then 1 else 0 end,
                {{ text_order('observation_key') }}
        ) as choice
    from vitals
),

readings as (
    select
        *,
        date_trunc('hour', observed_at) as window_start,
        row_number() over (
            partition by patient_key, vital_name, date_trunc('hour', observed_at)
            order by observed_at
        ) as position_from_first,
        row_number() over (
            partition by patient_key, vital_name, date_trunc('hour', observed_at)
            order by observed_at desc
        ) as position_from_last
    from ranked
    where choice = 1
),

hours as (
    select
        patient_key,
        patient_id,
        vital_name,
        unit,
        window_start,
        max(case when position_from_last = 1 then facility_id end) as facility_id,
        count(*) as reading_count,
        -- the sum of decimals is exact, so the mean does not hang on the order of the values
        cast(sum(value_number) as double precision) / count(*) as avg_value,
        min(value_number) as min_value,
        max(value_number) as max_value,
        max(case when position_from_first = 1 then value_number end) as first_value,
        max(case when position_from_last = 1 then value_number end) as last_value
    from readings
    group by patient_key, patient_id, vital_name, unit, window_start
),

final as (
    select
        cast({{ hash_key(['patient_key', 'vital_name', timestamp_text('window_start')]) }} as varchar(65535))
            as vital_window_key,
        cast(patient_key as varchar(65535)) as patient_key,
        cast(patient_id as varchar(65535)) as patient_id,
        cast(facility_id as varchar(65535)) as facility_id,
        cast(vital_name as varchar(65535)) as vital_name,
        cast(unit as varchar(65535)) as unit,
        cast(window_start as timestamp) as window_start,
        cast(window_start + interval '1 hour' as timestamp) as window_end,
        cast(reading_count as bigint) as reading_count,
        cast(avg_value as double precision) as avg_value,
        cast(min_value as numeric(18, 6)) as min_value,
        cast(max_value as numeric(18, 6)) as max_value,
        cast(first_value as numeric(18, 6)) as first_value,
        cast(last_value as numeric(18, 6)) as last_value
    from hours
)

select * from final
