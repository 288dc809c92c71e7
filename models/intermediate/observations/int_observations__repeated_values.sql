with observations as (
    select * from {{ ref('stg_hl7__observations') }}
),

repeating as (
    select
        message_sha256,
        segment_number,
        value_type,
        value_repetitions
    from observations
    where has_more_values
),

repetitions as (
    {{ unnest_json_array('repeating', 'value_repetitions', 'repetition', 'repetition_number') }}
),

components as (
    select
        message_sha256,
        segment_number,
        value_type,
        repetition_number,
        {{ hl7_text('repetition', ['1']) }} as value_1,
        {{ hl7_text('repetition', ['2']) }} as value_2
    from repetitions
),

texts as (
    select
        message_sha256,
        segment_number,
        repetition_number,
        case
            when value_type in ('CE', 'CF', 'CNE', 'CWE') then coalesce(value_2, value_1)
            when value_type is null or value_type not in ('ED', 'SN') then value_1
        end as value_text,
        coalesce(value_1, value_2) is not null as is_value
    from components
),

measured as (
    select
        *,
        sum({{ byte_length("coalesce(value_text, '')") }} + 1) over (partition by message_sha256, segment_number)
            as total_bytes
    from texts
    where is_value
)

-- longer than any warehouse can hold is no text rather than a cut one
select
    message_sha256,
    segment_number,
    count(*) as value_count,
    {{ text_list('case when total_bytes <= 65535 then value_text end', 'repetition_number') }} as value_text
from measured
group by message_sha256, segment_number
