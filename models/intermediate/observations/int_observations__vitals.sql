with observations as (
    select * from {{ ref('int_observations__current') }}
),

code_systems as (
    select * from {{ ref('code_systems') }}
),

vital_codes as (
    select * from {{ ref('vital_codes') }}
),

vital_units as (
    select * from {{ ref('vital_units') }}
),

vital_limits as (
    select * from {{ ref('vital_limits') }}
),

-- many senders put their own code first and the LOINC code beside it
coded as (
    select
        observations.*,
        coalesce(own_codes.vital_name, any_codes.vital_name, alternate_codes.vital_name) as vital_name,
        coalesce(own_codes.preference, any_codes.preference, alternate_codes.preference) as preference
    from observations
    left join code_systems as own_systems
        on upper(coalesce(observations.code_system, '(none)')) = own_systems.sent_code_system
    left join code_systems as alternate_systems
        on upper(coalesce(observations.alternate_code_system, '(none)')) = alternate_systems.sent_code_system
    left join vital_codes as own_codes
        on observations.code = own_codes.code
        and own_systems.code_system = own_codes.code_system
    left join vital_codes as any_codes
        on observations.code = any_codes.code
        and any_codes.code_system = '*'
    left join vital_codes as alternate_codes
        on observations.alternate_code = alternate_codes.code
        and alternate_systems.code_system = alternate_codes.code_system
),

converted as (
    select
        coded.*,
        vital_limits.unit as vital_unit,
        vital_limits.is_measured,
        vital_limits.plausible_low,
        vital_limits.plausible_high,
        vital_units.sent_unit is not null as is_known_unit,
        coded.value_number * vital_units.factor + vital_units.summand as converted_number
    from coded
    inner join vital_limits on coded.vital_name = vital_limits.vital_name
    left join vital_units
        on coded.vital_name = vital_units.vital_name
        and lower(coalesce(coded.unit, '(none)')) = vital_units.sent_unit
),

judged as (
    select
        *,
        case
            when value_text is null then 'no_value'
            when has_several_values then 'several_values'
            -- a day or a month would put the value into an hour in which it was not measured
            when observed_at_precision in ('year', 'month', 'day') then 'imprecise_time'
            when not is_measured then null
            when value_number is null then 'no_number'
            when not is_known_unit then 'unknown_unit'
            when converted_number < plausible_low or converted_number > plausible_high then 'implausible'
        end as reject_reason
    from converted
)

select
    observation_key,
    message_sha256,
    segment_number,
    _topic_id,
    _partition,
    _offset,
    patient_key,
    patient_id,
    facility_id,
    vital_name,
    preference,
    is_measured,
    observed_at,
    case when is_measured then vital_unit end as unit,
    cast(case when reject_reason is null and is_measured then converted_number end as numeric(18, 6)) as value_number,
    value_text,
    is_preliminary,
    kafka_arrived_at,
    reject_reason
from judged
