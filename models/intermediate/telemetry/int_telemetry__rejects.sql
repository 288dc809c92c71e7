{{ config(materialized='view') }}

with records as (
    select * from {{ ref('int_telemetry__records') }}
)

select
    _topic_id,
    _partition,
    _offset,
    segment_number,
    sent_as,
    reject_reason
from records
where reject_reason is not null
