with versions as (
    select * from {{ ref('int_observations__versions') }}
    where reject_reason is null
),

-- design section 8, observation: a final shows until it is removed, a preliminary one only where none stands
last_words as (
    select
        observation_key,
        max(case when effect = 'final' then version_number else 0 end) as final_version,
        max(case when effect = 'preliminary' then version_number else 0 end) as preliminary_version,
        max(case when effect = 'remove' then version_number else 0 end) as removed_version
    from versions
    group by observation_key
),

standing as (
    select
        observation_key,
        case
            when final_version > removed_version then final_version
            when preliminary_version > removed_version then preliminary_version
        end as version_number
    from last_words
),

-- U makes a preliminary result final and need not repeat its value
valued as (
    select
        versions.*,
        row_number() over (
            partition by versions.observation_key
            order by versions.version_number desc
        ) as position_from_last
    from versions
    inner join last_words on versions.observation_key = last_words.observation_key
    inner join standing on versions.observation_key = standing.observation_key
    where versions.effect <> 'remove'
        and versions.value_text is not null
        and versions.version_number > last_words.removed_version
        and versions.version_number < standing.version_number
)

select
    versions.message_sha256,
    versions.segment_number,
    versions._topic_id,
    versions._partition,
    versions._offset,
    versions.observation_key,
    versions.patient_key,
    versions.patient_id,
    versions.facility_id,
    versions.order_number,
    versions.code,
    versions.code_text,
    versions.code_system,
    versions.alternate_code,
    versions.alternate_code_system,
    versions.sub_id,
    versions.observed_at,
    versions.observed_at_precision,
    versions.is_time_zone_assumed,
    coalesce(versions.value_type, valued.value_type) as value_type,
    coalesce(versions.value_text, valued.value_text) as value_text,
    coalesce(versions.value_number, valued.value_number) as value_number,
    coalesce(valued.has_several_values, versions.has_several_values) as has_several_values,
    coalesce(versions.unit, valued.unit) as unit,
    coalesce(versions.reference_range, valued.reference_range) as reference_range,
    coalesce(versions.abnormal_flag, valued.abnormal_flag) as abnormal_flag,
    versions.status,
    versions.is_status_assumed,
    versions.effect = 'preliminary' as is_preliminary,
    versions.kafka_arrived_at
from versions
inner join standing
    on versions.observation_key = standing.observation_key
    and versions.version_number = standing.version_number
left join valued
    on versions.observation_key = valued.observation_key
    and versions.status = 'U'
    and versions.value_text is null
    and valued.position_from_last = 1
