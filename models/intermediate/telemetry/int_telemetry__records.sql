{#- one reading; removals are none of the refused -#}
{%- set of_reading = 'device_id, metric_name, reading_unit, measured_at, is_refused' -%}
{%- set last_word_first -%}
    partition by device_id, metric_name, reading_unit, measured_at, is_refused
    order by
        case when version_number = standing_version then 0 else 1 end,
        arrived_at desc,
        {{ text_order('_topic_id') }} desc,
        _partition desc,
        _offset desc,
        segment_number desc
{%- endset -%}

with json_records as (
    select * from {{ ref('stg_devices__telemetry') }}
),

hl7_observations as (
    select * from {{ ref('int_telemetry__hl7_observations') }}
),

metrics as (
    select * from {{ ref('device_metrics') }}
),

conversions as (
    select * from {{ ref('unit_conversions') }}
),

-- the same reading may come both ways; of HL7 also what takes readings back, which is none itself
records as (
    select
        'json' as sent_as,
        _topic_id,
        _partition,
        _offset,
        cast(null as bigint) as segment_number,
        kafka_arrived_at,
        arrived_at,
        device_id,
        '{{ var("telemetry_patient_authority") }}' as patient_authority,
        patient_id,
        metric_name,
        measured_at_text,
        measured_at,
        cast(null as varchar(65535)) as measured_at_precision,
        metric_value_text,
        metric_value,
        unit,
        software_version,
        sequence_number,
        false as is_cut,
        cast(null as timestamp) as message_at,
        cast(null as integer) as status_rank,
        'final' as effect,
        cast(null as varchar(65535)) as place,
        false as is_removal
    from json_records
    union all
    select
        'hl7' as sent_as,
        _topic_id,
        _partition,
        _offset,
        segment_number,
        kafka_arrived_at,
        arrived_at,
        device_id,
        patient_authority,
        patient_id,
        metric_name,
        measured_at_text,
        measured_at,
        measured_at_precision,
        metric_value_text,
        metric_value,
        unit,
        cast(null as varchar(65535)) as software_version,
        sequence_number,
        is_cut,
        message_at,
        status_rank,
        effect,
        place,
        other_kind is not null as is_removal
    from hl7_observations
    where other_kind is null
        or (
            other_kind in ('removal', 'not_obtained')
            and device_id is not null
            and metric_name is not null
            and measured_at is not null
        )
),

-- a known metric is kept in its own unit; of an unknown one nothing is known, so nothing is changed
in_metric_unit as (
    select
        records.*,
        metrics.metric_name is not null as is_known_metric,
        case
            when metrics.metric_name is null then coalesce(records.unit, '')
            else metrics.unit
        end as stored_unit,
        case
            when metrics.metric_name is null or records.unit is null or records.unit = metrics.unit
                then records.metric_value
            else cast(records.metric_value as numeric(38, 6)) * conversions.factor + conversions.summand
        end as stored_value,
        metrics.metric_name is not null
        and records.unit <> metrics.unit
        and conversions.from_unit is null as is_unknown_unit
    from records
    left join metrics on records.metric_name = metrics.metric_name
    left join conversions
        on records.metric_name = conversions.metric_name
        and records.unit = conversions.from_unit
),

units_told as (
    select distinct
        device_id,
        metric_name,
        measured_at,
        stored_unit
    from in_metric_unit
    where not is_removal and not is_known_metric
),

-- the unit is part of what a reading is, but who takes one back need not name it: all of them, then
in_reading_unit as (
    select
        *,
        stored_unit as reading_unit
    from in_metric_unit
    where not is_removal or is_known_metric or unit is not null
    union all
    select
        removals.*,
        units_told.stored_unit as reading_unit
    from in_metric_unit as removals
    inner join units_told
        on removals.device_id = units_told.device_id
        and removals.metric_name = units_told.metric_name
        and removals.measured_at = units_told.measured_at
    where removals.is_removal and not removals.is_known_metric and removals.unit is null
),

-- the first reason that applies
judged_alone as (
    select
        *,
        case
            when is_removal then null
            when is_cut then 'incomplete_segment'
            when effect is null then 'unknown_status'
            when device_id is null then 'no_device'
            when metric_name is null then 'no_metric'
            when measured_at_text is null then 'no_time'
            when measured_at is null then 'unreadable_time'
            -- a day would put the reading into an hour in which it was not measured
            when measured_at_precision in ('year', 'month', 'day') then 'imprecise_time'
            when metric_value_text is null then 'no_value'
            when metric_value is null then 'no_number'
            when is_unknown_unit then 'unknown_unit'
            when abs(stored_value) >= 999999999999.9999995 then 'no_number'
            when measured_at > arrived_at + interval '{{ var("max_clock_ahead_minutes") }} minutes' then 'clock_ahead'
        end as own_reason
    from in_reading_unit
),

measurements as (
    select
        *,
        sent_as = 'hl7' and own_reason is null and not is_removal as is_hl7_measurement,
        case
            when sent_as = 'hl7' and own_reason is null and not is_removal then cast(stored_value as numeric(18, 6))
        end as hl7_value,
        case when sent_as = 'hl7' and own_reason is null and not is_removal then place end as hl7_place
    from judged_alone
),

compared as (
    select
        *,
        min(hl7_value) over (partition by device_id, metric_name, reading_unit, measured_at) as least_value,
        max(hl7_value) over (partition by device_id, metric_name, reading_unit, measured_at) as greatest_value,
        min(hl7_place) over (partition by device_id, metric_name, reading_unit, measured_at) as first_place,
        max(hl7_place) over (partition by device_id, metric_name, reading_unit, measured_at) as last_place,
        min(hl7_value) over (
            partition by device_id, metric_name, reading_unit, measured_at, sent_as, _topic_id, _partition, _offset
        ) as least_value_of_message,
        max(hl7_value) over (
            partition by device_id, metric_name, reading_unit, measured_at, sent_as, _topic_id, _partition, _offset
        ) as greatest_value_of_message
    from measurements
),

-- A device can measure one thing in two channels at once: which value is the device's nobody can say. Another value
-- from the same place in a later message is a correction.
channels_judged as (
    select
        *,
        case
            when not is_hl7_measurement then own_reason
            when least_value_of_message <> greatest_value_of_message then 'several_channels'
            when least_value <> greatest_value and first_place <> last_place then 'several_channels'
        end as reject_reason
    from compared
),

judged as (
    select
        *,
        reject_reason is not null as is_refused
    from channels_judged
),

-- JSON and HL7 each in its own order: JSON has no message time and no status
versions as (
    select
        *,
        row_number() over (
            partition by {{ of_reading }}, sent_as
            order by
                message_at nulls first,
                sequence_number nulls first,
                status_rank nulls first,
                arrived_at,
                {{ text_order('_topic_id') }},
                _partition,
                _offset,
                segment_number
        ) as version_number
    from judged
),

last_words as (
    select
        *,
        max(case when not is_removal and effect = 'final' then version_number else 0 end)
            over (partition by {{ of_reading }}, sent_as) as final_version,
        max(case when not is_removal and effect = 'preliminary' then version_number else 0 end)
            over (partition by {{ of_reading }}, sent_as) as preliminary_version,
        max(case when is_removal then version_number else 0 end)
            over (partition by {{ of_reading }}, sent_as) as removed_version
    from versions
),

-- as for observations: a final stands until it is removed, a preliminary one only where none stands
standing as (
    select
        *,
        case
            when final_version > removed_version then final_version
            when preliminary_version > removed_version then preliminary_version
            else removed_version
        end as standing_version
    from last_words
),

-- where a reading came both ways, the last word of the one or of the other: the later to arrive
ranked as (
    select
        *,
        row_number() over ({{ last_word_first }}) as record_rank,
        -- where a removal wins, there is no reading
        first_value(case when is_removal then 1 else 0 end) over (
            {{ last_word_first }} rows between unbounded preceding and current row
        ) = 1 as is_removed,
        sum(case when is_removal then 0 else 1 end) over (partition by {{ of_reading }}) as record_count
    from standing
),

outcomes as (
    select
        *,
        case when is_removed and reject_reason is null then 'removed' else reject_reason end as final_reason
    from ranked
    where not is_removal
),

final as (
    select
        cast(_topic_id as varchar(65535)) as _topic_id,
        cast(_partition as integer) as _partition,
        cast(_offset as bigint) as _offset,
        cast(segment_number as bigint) as segment_number,
        cast(sent_as as varchar(65535)) as sent_as,
        cast(kafka_arrived_at as timestamp) as kafka_arrived_at,
        cast(arrived_at as timestamp) as arrived_at,
        cast(device_id as varchar(65535)) as device_id,
        cast(patient_authority as varchar(65535)) as patient_authority,
        cast(patient_id as varchar(65535)) as patient_id,
        cast(metric_name as varchar(65535)) as metric_name,
        cast(stored_unit as varchar(65535)) as unit,
        cast(measured_at as timestamp) as measured_at,
        cast(date_trunc('hour', measured_at) as timestamp) as hour_at,
        cast(case when final_reason is null then stored_value end as numeric(18, 6)) as metric_value,
        cast(software_version as varchar(65535)) as software_version,
        cast(sequence_number as bigint) as sequence_number,
        cast(is_known_metric as boolean) as is_known_metric,
        cast(final_reason as varchar(65535)) as reject_reason,
        cast(final_reason is null and record_rank = 1 as boolean) as is_reading,
        cast(case when final_reason is null and record_rank = 1 then record_count end as bigint) as record_count
    from outcomes
)

select * from final
