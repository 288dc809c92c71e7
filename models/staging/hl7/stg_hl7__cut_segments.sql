{{ config(materialized='table') }}

with segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

-- what an ADD segment adds is joined to the segment above it, so that one which still stands adds nothing here: the
-- rest comes with another message; directly under MSH it is such a rest itself
final as (
    select
        message_sha256,
        segment_number - 1 as segment_number
    from segments
    where segment_id = 'ADD'
        and segment_number > 2
)

select * from final
