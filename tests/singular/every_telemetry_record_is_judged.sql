-- A row is returned where the telemetry in raw (tombstones apart) and the device observations of HL7 messages are
-- not, record for record, what was judged: readings, their duplicates, and rejects with a reason.
with raw_records as (
    select count(*) as record_count
    from {{ source('raw', 'device_telemetry') }}
    where payload is not null
),

hl7_records as (
    select count(*) as record_count
    from {{ ref('int_telemetry__hl7_observations') }}
    where other_kind is null
),

judged_records as (
    select
        sum(case when is_reading then record_count else 0 end) as accepted_count,
        count(reject_reason) as rejected_count
    from {{ ref('int_telemetry__records') }}
)

select
    raw_records.record_count as json_count,
    hl7_records.record_count as hl7_count,
    judged_records.accepted_count,
    judged_records.rejected_count
from raw_records
cross join hl7_records
cross join judged_records
where raw_records.record_count + hl7_records.record_count
    <> coalesce(judged_records.accepted_count, 0) + judged_records.rejected_count
