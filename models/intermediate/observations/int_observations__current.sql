{%- set value_columns = ['value_type', 'value_text', 'value_number', 'unit', 'reference_range', 'abnormal_flag'] -%}

with versions as (
    select * from {{ ref('int_observations__versions') }}
    where reject_reason is null
),

last_words as (
    select
        *,
        max(case when effect = 'final' then version_number else 0 end) over (partition by observation_key)
            as final_version,
        max(case when effect = 'preliminary' then version_number else 0 end) over (partition by observation_key)
            as preliminary_version,
        max(case when effect = 'remove' then version_number else 0 end) over (partition by observation_key)
            as removed_version
    from versions
),

-- a final shows until it is removed, a preliminary one only where none stands
standing as (
    select
        *,
        case
            when final_version > removed_version then final_version
            when preliminary_version > removed_version then preliminary_version
        end as standing_version
    from last_words
),

-- U makes a preliminary result final and need not repeat its value: the last version that gave one
valued as (
    select
        *,
        max(
            case
                when value_text is not null and version_number > removed_version and version_number < standing_version
                    then version_number
            end
        ) over (partition by observation_key) as valued_version
    from standing
),

carried as (
    select
        *,
        status = 'U' and value_text is null as is_carried,
        {% for column in value_columns %}
        lag({{ column }}) over (partition by observation_key order by version_number) as carried_{{ column }},
        {% endfor %}
        lag(has_several_values) over (partition by observation_key order by version_number)
            as carried_has_several_values
    from valued
    where version_number in (standing_version, valued_version)
)

select
    message_sha256,
    segment_number,
    _topic_id,
    _partition,
    _offset,
    observation_key,
    patient_key,
    patient_id,
    facility_id,
    order_number,
    code,
    code_text,
    code_system,
    alternate_code,
    alternate_code_system,
    sub_id,
    observed_at,
    observed_at_precision,
    is_time_zone_assumed,
    {% for column in value_columns if column != 'value_number' %}
    case when is_carried then coalesce({{ column }}, carried_{{ column }}) else {{ column }} end as {{ column }},
    {% endfor %}
    cast(case when is_carried then carried_value_number else value_number end as numeric(18, 6)) as value_number,
    case when is_carried then coalesce(carried_has_several_values, has_several_values) else has_several_values end
        as has_several_values,
    status,
    is_status_assumed,
    effect = 'preliminary' as is_preliminary,
    kafka_arrived_at
from carried
where version_number = standing_version
