-- A row is returned where the OBX segments of the messages are not, one for one, what was judged: versions of
-- an observation, refused ones among them; and what alarms (ORU^R40) say of themselves, which are none.
with segments as (
    select
        segments.message_sha256,
        coalesce(messages.message_type = 'ORU' and messages.trigger_event = 'R40', false) as is_of_alarm
    from {{ ref('stg_hl7__segments') }} as segments
    inner join {{ ref('stg_hl7__messages') }} as messages on segments.message_sha256 = messages.message_sha256
    where segments.segment_id = 'OBX'
),

counted as (
    select
        count(*) as segment_count,
        count(case when is_of_alarm then 1 end) as alarm_count
    from segments
),

versions as (
    select count(*) as version_count
    from {{ ref('int_observations__versions') }}
)

select
    counted.segment_count,
    counted.alarm_count,
    versions.version_count
from counted
cross join versions
where counted.segment_count <> counted.alarm_count + versions.version_count
