{{ config(materialized='table') }}

with segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

cut_segments as (
    select * from {{ ref('stg_hl7__cut_segments') }}
),

texts as (
    select
        message_sha256,
        segment_number,
        pid_number,
        {{ hl7_code('DG1-1') }} as set_id_text,
        {{ hl7_code('DG1-2') }} as coding_method,
        {{ hl7_code('DG1-3.1') }} as code,
        {{ hl7_words('DG1-3.2') }} as code_text,
        {{ hl7_code('DG1-3.3') }} as code_system,
        {{ hl7_code('DG1-3.4') }} as alternate_code,
        {{ hl7_words('DG1-3.5') }} as alternate_code_text,
        {{ hl7_code('DG1-3.6') }} as alternate_code_system,
        {{ hl7_words('DG1-3.9') }} as original_text,
        {{ hl7_words('DG1-4') }} as description,
        {{ hl7_code('DG1-5') }} as diagnosed_at_text,
        upper({{ hl7_code('DG1-6') }}) as diagnosis_type,
        {{ hl7_code('DG1-15') }} as priority_text,
        {{ hl7_code('DG1-16.1') }} as clinician_id,
        {{ hl7_code('DG1-19') }} as attested_at_text,
        {{ hl7_code('DG1-20.1') }} as diagnosis_id,
        coalesce({{ hl7_code('DG1-20.2') }}, {{ hl7_code('DG1-20.3') }}) as diagnosis_id_authority,
        upper({{ hl7_code('DG1-21') }}) as action_code,
        {{ hl7_code('DG1-22.1') }} as parent_diagnosis_id
    from segments
    where segment_id = 'DG1'
),

final as (
    select
        texts.message_sha256,
        texts.segment_number,
        texts.pid_number,
        cut_segments.segment_number is not null as is_cut,
        {{ parse_bigint('texts.set_id_text') }} as set_id,
        texts.coding_method,
        texts.code,
        texts.code_text,
        texts.code_system,
        texts.alternate_code,
        texts.alternate_code_text,
        texts.alternate_code_system,
        texts.original_text,
        texts.description,
        texts.diagnosed_at_text,
        {{ hl7_timestamp('texts.diagnosed_at_text', 'messages.time_zone') }} as diagnosed_at,
        {{ hl7_precision('texts.diagnosed_at_text') }} as diagnosed_at_precision,
        texts.diagnosis_type,
        {{ parse_bigint('texts.priority_text') }} as priority,
        texts.clinician_id,
        texts.attested_at_text,
        {{ hl7_timestamp('texts.attested_at_text', 'messages.time_zone') }} as attested_at,
        {{ hl7_zone_is_assumed('texts.diagnosed_at_text', 'messages.time_zone') }}
        or {{ hl7_zone_is_assumed('texts.attested_at_text', 'messages.time_zone') }} as is_time_zone_assumed,
        texts.diagnosis_id,
        texts.diagnosis_id_authority,
        texts.action_code,
        texts.parent_diagnosis_id
    from texts
    inner join messages on texts.message_sha256 = messages.message_sha256
    left join cut_segments
        on texts.message_sha256 = cut_segments.message_sha256
        and texts.segment_number = cut_segments.segment_number
)

select * from final
