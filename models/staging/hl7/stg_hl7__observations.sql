{{ config(materialized='table') }}

with segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

cut_segments as (
    select * from {{ ref('stg_hl7__cut_segments') }}
),

texts as (
    select
        segments.message_sha256,
        segments.segment_number,
        segments.pid_number,
        segments.orc_number,
        segments.obr_number,
        cut_segments.segment_number is not null as is_cut,
        upper({{ hl7_code('OBX-2') }}) as value_type,
        {{ hl7_code('OBX-3.1') }} as code,
        {{ hl7_words('OBX-3.2') }} as code_text,
        {{ hl7_code('OBX-3.3') }} as code_system,
        {{ hl7_code('OBX-3.4') }} as alternate_code,
        {{ hl7_words('OBX-3.5') }} as alternate_code_text,
        {{ hl7_code('OBX-3.6') }} as alternate_code_system,
        {{ hl7_code('OBX-4') }} as sub_id,
        nullif({{ hl7('OBX-5.1') }}, '""') as value_1,
        nullif({{ hl7('OBX-5.2') }}, '""') as value_2,
        nullif({{ hl7('OBX-5.3') }}, '""') as value_3,
        nullif({{ hl7('OBX-5.4') }}, '""') as value_4,
        {{ json_node('fields', ['5', 1]) }} is not null as has_more_values,
        {{ json_has_other_keys(json_node('fields', ['5', 0]), '1') }} as has_more_parts,
        {{ json_node('fields', ['5']) }} as value_repetitions,
        coalesce({{ hl7_code('OBX-6.1') }}, {{ hl7_code('OBX-6.2') }}) as unit,
        {{ hl7_code('OBX-6.2') }} as unit_text,
        {{ hl7_words('OBX-7') }} as reference_range,
        {{ hl7_code('OBX-8') }} as abnormal_flag,
        upper({{ hl7_code('OBX-11') }}) as status,
        {{ hl7_code('OBX-14') }} as observed_at_text,
        coalesce({{ hl7_code('OBX-18.1') }}, {{ hl7_code('OBX-18.3') }}) as device_id
    from segments
    left join cut_segments
        on segments.message_sha256 = cut_segments.message_sha256
        and segments.segment_number = cut_segments.segment_number
    where segments.segment_id = 'OBX'
),

final as (
    select
        message_sha256,
        segment_number,
        pid_number,
        orc_number,
        obr_number,
        is_cut,
        value_type,
        code,
        code_text,
        code_system,
        alternate_code,
        alternate_code_text,
        alternate_code_system,
        sub_id,
        value_1,
        value_2,
        value_3,
        value_4,
        has_more_values,
        has_more_parts,
        case
            when has_more_values then value_repetitions
            when not has_more_parts then null
            when value_type is null or value_type = 'SN' then value_repetitions
            when value_type in {{ hl7_primitive_types() }} then value_repetitions
        end as value_repetitions,
        unit,
        unit_text,
        reference_range,
        abnormal_flag,
        status,
        observed_at_text,
        device_id
    from texts
)

select * from final
