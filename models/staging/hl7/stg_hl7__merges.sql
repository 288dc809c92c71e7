{{ config(materialized='table') }}

with segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

final as (
    select
        message_sha256,
        segment_number,
        pid_number,
        {{ hl7_code('MRG-3') }} as prior_account_number,
        {{ hl7_code('MRG-5') }} as prior_visit_number
    from segments
    where segment_id = 'MRG'
)

select * from final
