{{ config(materialized='table') }}

with segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

final as (
    select
        message_sha256,
        segment_number,
        {{ hl7_code('EVN-2') }} as recorded_at_text,
        {{ hl7_code('EVN-6') }} as occurred_at_text
    from segments
    where segment_id = 'EVN'
)

select * from final
