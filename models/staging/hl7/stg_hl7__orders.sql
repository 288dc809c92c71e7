{{ config(materialized='table') }}

with segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

final as (
    select
        message_sha256,
        segment_number,
        segment_id,
        {{ hl7_code('OBR-2') }} as placer_order_number,
        {{ hl7_code('OBR-3') }} as filler_order_number,
        case when segment_id = 'OBR' then {{ hl7_code('OBR-4') }} end as service_code,
        case when segment_id = 'OBR' then {{ hl7_code('OBR-7') }} end as observed_at_text
    from segments
    -- ORC and OBR agree in fields 2 and 3
    where segment_id in ('ORC', 'OBR')
)

select * from final
