{{ config(materialized='table') }}

with segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

final as (
    select
        message_sha256,
        segment_number,
        {{ hl7_attribute('PID-5.1') }} as family_name,
        {{ hl7_attribute('PID-5.2') }} as given_name,
        {{ hl7_attribute('PID-7') }} as birth_date_text,
        {{ hl7_attribute('PID-8') }} as sex_text,
        {{ hl7_attribute('PID-11.5') }} as postal_code,
        {{ hl7_code('PID-18') }} as account_number
    from segments
    where segment_id = 'PID'
)

select * from final
