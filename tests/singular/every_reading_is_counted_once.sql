-- A row is returned where the hourly marts do not hold, all in all, each accepted reading exactly once.
with accepted as (
    select count(*) as reading_count
    from {{ ref('int_telemetry__records') }}
    where is_reading
),

in_telemetry as (
    select coalesce(sum(reading_count), 0) as reading_count
    from {{ ref('fact_telemetry_1h') }}
),

in_compliance as (
    select coalesce(sum(readings_total), 0) as reading_count
    from {{ ref('fact_compliance_1h') }}
)

select
    accepted.reading_count as accepted_count,
    in_telemetry.reading_count as telemetry_count,
    in_compliance.reading_count as compliance_count
from accepted
cross join in_telemetry
cross join in_compliance
where accepted.reading_count <> in_telemetry.reading_count
    or accepted.reading_count <> in_compliance.reading_count
