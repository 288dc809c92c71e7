-- A row is returned where the OBX of ORU^R01 messages that are coded in MDC are not, one for one, what was judged:
-- readings and their duplicates, rejects with a reason, and what is no measurement, by its kind.
with segments as (
    select count(*) as segment_count
    from {{ ref('stg_hl7__segments') }} as segments
    inner join {{ ref('stg_hl7__messages') }} as messages on segments.message_sha256 = messages.message_sha256
    left join {{ ref('stg_hl7__observations') }} as observations
        on segments.message_sha256 = observations.message_sha256
        and segments.segment_number = observations.segment_number
    where segments.segment_id = 'OBX'
        and messages.message_type = 'ORU'
        and messages.trigger_event = 'R01'
        and (
            upper(observations.code_system) in ('MDC', '2.16.840.1.113883.6.24')
            or upper(observations.alternate_code_system) in ('MDC', '2.16.840.1.113883.6.24')
        )
),

judged as (
    select
        count(case when reject_reason is null then 1 end) as accepted_count,
        count(reject_reason) as rejected_count
    from {{ ref('int_telemetry__records') }}
    where sent_as = 'hl7'
),

others as (
    select count(*) as other_count
    from {{ ref('int_telemetry__hl7_observations') }}
    where other_kind is not null
)

select
    segments.segment_count,
    judged.accepted_count,
    judged.rejected_count,
    others.other_count
from segments
cross join judged
cross join others
where segments.segment_count <> judged.accepted_count + judged.rejected_count + others.other_count
