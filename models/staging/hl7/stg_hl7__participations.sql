{{ config(materialized='table') }}

with segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

final as (
    select
        message_sha256,
        segment_number,
        pid_number,
        obr_number,
        obx_number,
        upper({{ hl7_code('PRT-4') }}) as role_code,
        coalesce({{ hl7_code('PRT-10.1') }}, {{ hl7_code('PRT-10.3') }}) as device_id
    from segments
    where segment_id = 'PRT'
)

select * from final
