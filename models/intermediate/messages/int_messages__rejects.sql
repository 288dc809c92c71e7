{{ config(materialized='view') }}

with records as (
    select * from {{ ref('stg_hl7__records') }}
),

messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

deliveries as (
    select
        _topic_id,
        _partition,
        _offset,
        {{ json_string('meta', ['sha256']) }} as message_sha256
    from records
)

select
    deliveries._topic_id,
    deliveries._partition,
    deliveries._offset,
    'no_message' as reject_reason
from deliveries
left join messages on deliveries.message_sha256 = messages.message_sha256
where messages.message_sha256 is null
