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

-- AL1 and IAM agree in fields 1 to 5, and in nothing after that
texts as (
    select
        message_sha256,
        segment_number,
        segment_id,
        pid_number,
        {{ hl7_code('IAM-1') }} as set_id_text,
        upper({{ hl7_code('IAM-2') }}) as allergen_type,
        {{ hl7_code('IAM-3.1') }} as code,
        {{ hl7_words('IAM-3.2') }} as code_text,
        {{ hl7_code('IAM-3.3') }} as code_system,
        {{ hl7_code('IAM-3.4') }} as alternate_code,
        {{ hl7_words('IAM-3.5') }} as alternate_code_text,
        {{ hl7_code('IAM-3.6') }} as alternate_code_system,
        {{ hl7_words('IAM-3.9') }} as original_text,
        upper({{ hl7_code('IAM-4') }}) as severity,
        {{ hl7_words('IAM-5') }} as reaction,
        {{ json_node('fields', ['5', 1]) }} is not null as has_more_reactions,
        case when {{ json_node('fields', ['5', 1]) }} is not null then {{ json_node('fields', ['5']) }} end
            as reaction_repetitions,
        case when segment_id = 'IAM' then upper({{ hl7_code('IAM-6') }}) end as action_code,
        case when segment_id = 'IAM' then {{ hl7_code('IAM-7.1') }} end as allergy_id,
        case when segment_id = 'IAM' then coalesce({{ hl7_code('IAM-7.2') }}, {{ hl7_code('IAM-7.3') }}) end
            as allergy_id_authority,
        case when segment_id = 'IAM' then {{ hl7_words('IAM-8') }} end as action_reason,
        case when segment_id = 'IAM' then upper({{ hl7_code('IAM-9') }}) end as sensitivity_code,
        case when segment_id = 'AL1' then {{ hl7_code('AL1-6') }} end as identified_at_text,
        case when segment_id = 'IAM' then {{ hl7_code('IAM-11') }} end as onset_at_text,
        case when segment_id = 'IAM' then {{ hl7_words('IAM-12') }} end as onset_text,
        case when segment_id = 'IAM' then {{ hl7_code('IAM-13') }} end as reported_at_text,
        case when segment_id = 'IAM' then upper({{ hl7_code('IAM-17') }}) end as clinical_status
    from segments
    where segment_id in ('AL1', 'IAM')
),

final as (
    select
        texts.message_sha256,
        texts.segment_number,
        texts.segment_id,
        texts.pid_number,
        cut_segments.segment_number is not null as is_cut,
        {{ parse_bigint('texts.set_id_text') }} as set_id,
        texts.allergen_type,
        texts.code,
        texts.code_text,
        texts.code_system,
        texts.alternate_code,
        texts.alternate_code_text,
        texts.alternate_code_system,
        texts.original_text,
        texts.severity,
        texts.reaction,
        texts.has_more_reactions,
        texts.reaction_repetitions,
        texts.action_code,
        texts.allergy_id,
        texts.allergy_id_authority,
        texts.action_reason,
        texts.sensitivity_code,
        texts.identified_at_text,
        {{ hl7_timestamp('texts.identified_at_text', 'messages.time_zone') }} as identified_at,
        {{ hl7_precision('texts.identified_at_text') }} as identified_at_precision,
        texts.onset_at_text,
        {{ hl7_timestamp('texts.onset_at_text', 'messages.time_zone') }} as onset_at,
        {{ hl7_precision('texts.onset_at_text') }} as onset_at_precision,
        texts.onset_text,
        texts.reported_at_text,
        {{ hl7_timestamp('texts.reported_at_text', 'messages.time_zone') }} as reported_at,
        {% for column in ['identified_at_text', 'onset_at_text', 'reported_at_text'] %}
        {% if not loop.first %}or {% endif %}{{ hl7_zone_is_assumed('texts.' ~ column, 'messages.time_zone') }}
        {% endfor %} as is_time_zone_assumed,
        texts.clinical_status
    from texts
    inner join messages on texts.message_sha256 = messages.message_sha256
    left join cut_segments
        on texts.message_sha256 = cut_segments.message_sha256
        and texts.segment_number = cut_segments.segment_number
)

select * from final
