-- A row is returned where the OBX segments of the messages are not, one for one, what was judged: versions of
-- an observation, refused ones among them; and what alarms (ORU^R40) say of themselves, which are none. That stands
-- under the OBR of an alarm that is there: without one it is refused like the others.
with segments as (
    select
        segments.message_sha256,
        alarms.message_sha256 is not null as is_of_alarm
    from {{ ref('stg_hl7__segments') }} as segments
    left join {{ ref('stg_hl7__alarms') }} as alarms
        on segments.message_sha256 = alarms.message_sha256
        and segments.obr_number = alarms.segment_number
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
