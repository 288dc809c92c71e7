with observations as (
    select * from {{ ref('stg_hl7__observations') }}
),

repeating as (
    select
        message_sha256,
        segment_number,
        value_type,
        coalesce(value_type in {{ hl7_primitive_types() }}, true) as is_text,
        value_repetitions
    from observations
    where value_repetitions is not null
),

repetitions as (
    {{ unnest_json_array('repeating', 'value_repetitions', 'repetition', 'repetition_number') }}
),

-- the parts of a text that was sent without the escapes it needs
sent_apart as (
    select
        message_sha256,
        segment_number,
        repetition_number,
        is_text,
        repetition
    from repetitions
    where is_text or value_type = 'SN'
),

members as (
    {{ unnest_json_object('sent_apart', 'repetition', 'member_key', 'member') }}
),

parts as (
    select
        message_sha256,
        segment_number,
        repetition_number,
        is_text,
        member_key,
        case
            when {{ matches('member_key', '^[0-9]{1,5}([.][0-9]{1,5})?$') }}
                then cast(split_part(member_key, '.', 1) as integer)
        end as component,
        case
            when {{ matches('member_key', '^[0-9]{1,5}[.][0-9]{1,5}$') }}
                then cast(split_part(member_key, '.', 2) as integer)
            else 1
        end as subcomponent,
        {{ hl7_text('member', []) }} as part
    from members
),

numbered as (
    select
        *,
        coalesce(
            lag(component) over (
                partition by message_sha256, segment_number, repetition_number order by component, subcomponent
            ),
            1
        ) as last_component,
        coalesce(
            lag(subcomponent) over (
                partition by message_sha256, segment_number, repetition_number order by component, subcomponent
            ),
            1
        ) as last_subcomponent
    from parts
),

-- with the delimiters before each, those of empty parts too
delimited as (
    select
        *,
        case
            when component = last_component then repeat('&', subcomponent - last_subcomponent)
            else repeat('^', component - last_component) || repeat('&', subcomponent - 1)
        end || part as delimited_part
    from numbered
),

sized as (
    select
        *,
        sum({{ byte_length("coalesce(delimited_part, '')") }}) over (
            partition by message_sha256, segment_number, repetition_number
        ) as total_bytes
    from delimited
),

fitting as (
    select
        *,
        case when total_bytes <= 65535 then delimited_part end as fitting_part
    from sized
),

-- without one of its parts (replaced by its hash) it would be another text
joined_parts as (
    select
        message_sha256,
        segment_number,
        repetition_number,
        case
            when count(*) = count(delimited_part)
                then {{ text_list('fitting_part', 'component, subcomponent', "''") }}
        end as whole_text,
        max(
            case
                when member_key = '1' then 0
                when not is_text and member_key in ('2', '3', '4') then 0
                else 1
            end
        ) = 0 as is_plain
    from fitting
    group by message_sha256, segment_number, repetition_number
),

values_of_repetitions as (
    select
        repetitions.message_sha256,
        repetitions.segment_number,
        repetitions.value_type,
        repetitions.is_text,
        repetitions.repetition_number,
        nullif({{ hl7_text('repetitions.repetition', ['1']) }}, '""') as value_1,
        nullif({{ hl7_text('repetitions.repetition', ['2']) }}, '""') as value_2,
        nullif({{ hl7_text('repetitions.repetition', ['3']) }}, '""') as value_3,
        nullif({{ hl7_text('repetitions.repetition', ['4']) }}, '""') as value_4,
        nullif(joined_parts.whole_text, '""') as whole_text,
        coalesce(joined_parts.is_plain, true) as is_plain
    from repetitions
    left join joined_parts
        on repetitions.message_sha256 = joined_parts.message_sha256
        and repetitions.segment_number = joined_parts.segment_number
        and repetitions.repetition_number = joined_parts.repetition_number
),

with_numbers as (
    select
        *,
        nullif(
            coalesce(value_1, '') || coalesce(value_2, '') || coalesce(value_3, '') || coalesce(value_4, ''), ''
        ) as number_text
    from values_of_repetitions
),

texts as (
    select
        *,
        case
            when value_type in ('CE', 'CF', 'CNE', 'CWE') then coalesce(value_2, value_1)
            when value_type = 'ED' then null
            when value_type = 'SN' and is_plain then number_text
            when value_type = 'SN' or is_text then whole_text
            else value_1
        end as value_text,
        coalesce(value_1, value_2, value_3, value_4, whole_text) is not null or not is_plain as is_value
    from with_numbers
),

measured as (
    select
        *,
        sum({{ byte_length("coalesce(value_text, '')") }} + 1) over (partition by message_sha256, segment_number)
            as text_bytes
    from texts
    where is_value
)

-- longer than any warehouse can hold is no text rather than a cut one
select
    message_sha256,
    segment_number,
    count(*) as value_count,
    {{ text_list('case when text_bytes <= 65535 then value_text end', 'repetition_number') }} as value_text,
    case when count(*) = 1 then max(value_1) end as value_1,
    case when count(*) = 1 then max(value_2) end as value_2,
    case when count(*) = 1 then max(value_3) end as value_3,
    case when count(*) = 1 then max(value_4) end as value_4,
    min(case when is_plain then 1 else 0 end) = 1 as is_plain
from measured
group by message_sha256, segment_number
