{{ config(materialized='view') }}

with records as (
    select * from {{ ref('int_telemetry__records') }}
)

select max(least(measured_at, coalesce(kafka_arrived_at, measured_at))) as clock_at
from records
where reject_reason is null
