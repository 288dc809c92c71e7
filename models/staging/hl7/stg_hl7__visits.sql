{{ config(materialized='table') }}

with segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

final as (
    select
        message_sha256,
        segment_number,
        pid_number,
        upper({{ hl7_attribute('PV1-2') }}) as class,
        {{ hl7_attribute('PV1-3.1') }} as point_of_care,
        {{ hl7_attribute('PV1-3.2') }} as room,
        {{ hl7_attribute('PV1-3.3') }} as bed,
        {{ hl7_attribute('PV1-7') }} as attending_provider_id,
        {{ hl7_code('PV1-19') }} as visit_number,
        {{ hl7_code('PV1-44') }} as admitted_at_text,
        {{ hl7_attribute('PV1-45') }} as discharged_at_text
    from segments
    where segment_id = 'PV1'
)

select * from final
