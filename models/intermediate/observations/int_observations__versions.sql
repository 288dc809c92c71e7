with observations as (
    select * from {{ ref('stg_hl7__observations') }}
),

messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

orders as (
    select * from {{ ref('stg_hl7__orders') }}
),

identities as (
    select * from {{ ref('int_patients__identities') }}
),

identifiers as (
    select * from {{ ref('patient_identifiers') }}
),

statuses as (
    select * from {{ ref('observation_statuses') }}
),

repeated_values as (
    select * from {{ ref('int_observations__repeated_values') }}
),

joined as (
    select
        observations.*,
        messages._topic_id,
        messages._partition,
        messages._offset,
        messages.kafka_arrived_at,
        messages.arrived_at,
        messages.message_at,
        messages.sequence_number,
        messages.facility_id,
        messages.time_zone,
        coalesce(messages.message_type = 'ORU' and messages.trigger_event = 'R40', false) as is_of_alarm,
        identifiers.patient_key,
        identifiers.patient_id,
        coalesce(request_orders.filler_order_number, control_orders.filler_order_number) as order_number,
        case
            when {{ hl7_is_time('observations.observed_at_text') }} then observations.observed_at_text
            else request_orders.observed_at_text
        end as time_text,
        coalesce(repeated_values.value_count > 1, false) as has_several_values,
        repeated_values.message_sha256 is not null as is_taken_apart,
        repeated_values.value_text as taken_apart_text,
        coalesce(repeated_values.is_plain, true) as is_plain,
        -- where only one repetition is filled, that one; where several are, no part is read
        case when repeated_values.value_count = 1 then repeated_values.value_1 else observations.value_1 end as part_1,
        case when repeated_values.value_count = 1 then repeated_values.value_2 else observations.value_2 end as part_2,
        case when repeated_values.value_count = 1 then repeated_values.value_3 else observations.value_3 end as part_3,
        case when repeated_values.value_count = 1 then repeated_values.value_4 else observations.value_4 end as part_4
    from observations
    inner join messages on observations.message_sha256 = messages.message_sha256
    left join orders as request_orders
        on observations.message_sha256 = request_orders.message_sha256
        and observations.obr_number = request_orders.segment_number
    left join orders as control_orders
        on observations.message_sha256 = control_orders.message_sha256
        and observations.orc_number = control_orders.segment_number
    left join identities
        on observations.message_sha256 = identities.message_sha256
        and observations.pid_number = identities.segment_number
    left join identifiers on identities.identifier_key = identifiers.identifier_key
    left join repeated_values
        on observations.message_sha256 = repeated_values.message_sha256
        and observations.segment_number = repeated_values.segment_number
    -- what an alarm says of itself is no observation of the patient: stg_hl7__alarms; it begins with an OBR
    where coalesce(messages.message_type, '') <> 'ORU'
        or coalesce(messages.trigger_event, '') <> 'R40'
        or observations.obr_number is null
),

-- the trimmed parts of a value that may be a number
numerals as (
    select
        *,
        coalesce(code, alternate_code, {{ hl7_clean('code_text') }}) as observation_code,
        case when code is not null then code_system when alternate_code is not null then alternate_code_system end
            as observation_code_system,
        case
            when has_several_values then null
            -- 120^130 and 1&200 are no number: which of its parts is meant is not told
            when not is_plain then null
            when value_type is null or value_type in ('NM', 'ST') then trim(part_1)
            when value_type = 'SN' and coalesce(trim(part_1), '=') in ('', '=') and coalesce(part_3, part_4) is null
                then trim(part_2)
        end as number_text,
        coalesce(part_1, '') || coalesce(part_2, '') || coalesce(part_3, '') || coalesce(part_4, '') as number_parts
    from joined
),

typed as (
    select
        *,
        {{ hl7_timestamp('time_text', 'time_zone') }} as observed_at,
        {{ hl7_precision('time_text') }} as observed_at_precision,
        {{ hl7_zone_is_assumed('time_text', 'time_zone') }} as is_time_zone_assumed,
        case
            when is_taken_apart then taken_apart_text
            when value_type in ('CE', 'CF', 'CNE', 'CWE') then coalesce(part_2, part_1)
            when value_type = 'SN' then nullif(number_parts, '')
            -- the first component of an embedded document says where it comes from, not what was found
            when value_type = 'ED' then null
            else part_1
        end as value_text,
        {{ parse_number('number_text') }} as value_number,
        -- a correction may come alone, so that only its place among its like is the same in both messages
        coalesce(
            sub_id,
            cast(
                row_number() over (
                    partition by
                        message_sha256, pid_number, orc_number, obr_number, observation_code, observation_code_system,
                        case when sub_id is null then 1 else 0 end
                    order by segment_number
                ) as varchar(65535)
            )
        ) as observation_sub_id
    from numerals
),

judged as (
    select
        typed.*,
        statuses.effect,
        statuses.status_rank,
        case
            when typed.is_of_alarm then 'alarm_without_order'
            when typed.is_cut then 'incomplete_segment'
            when typed.patient_key is null then 'no_patient'
            when typed.observation_code is null then 'no_code'
            when typed.observed_at is null then 'no_time'
            when statuses.status is null then 'unknown_status'
            when statuses.effect = 'none' then 'not_a_result'
        end as reject_reason
    from typed
    left join statuses on coalesce(typed.status, 'F') = statuses.status
),

final as (
    select
        message_sha256,
        segment_number,
        _topic_id,
        _partition,
        _offset,
        {{ hash_key([
            'facility_id', 'patient_key', 'order_number', 'observation_code', 'observation_code_system',
            'observation_sub_id', timestamp_text('observed_at'),
        ]) }} as observation_key,
        patient_key,
        patient_id,
        facility_id,
        order_number,
        observation_code as code,
        code_text,
        observation_code_system as code_system,
        alternate_code,
        alternate_code_system,
        observation_sub_id as sub_id,
        observed_at,
        observed_at_precision,
        is_time_zone_assumed,
        value_type,
        value_text,
        cast(value_number as numeric(18, 6)) as value_number,
        has_several_values,
        unit,
        reference_range,
        abnormal_flag,
        coalesce(status, 'F') as status,
        status is null as is_status_assumed,
        effect,
        kafka_arrived_at,
        row_number() over (
            partition by
                facility_id, patient_key, order_number, observation_code, observation_code_system,
                observation_sub_id, observed_at, reject_reason
            order by
                message_at nulls first,
                sequence_number nulls first,
                status_rank nulls first,
                arrived_at,
                {{ text_order('_topic_id') }},
                _partition,
                _offset,
                segment_number
        ) as version_number,
        reject_reason
    from judged
)

select * from final
