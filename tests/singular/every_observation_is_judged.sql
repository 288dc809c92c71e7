-- A row is returned where the OBX segments of the messages are not, one for one, what was judged: versions of
-- an observation, refused ones among them.
with segments as (
    select count(*) as segment_count
    from {{ ref('stg_hl7__segments') }}
    where segment_id = 'OBX'
),

versions as (
    select count(*) as version_count
    from {{ ref('int_observations__versions') }}
)

select
    segments.segment_count,
    versions.version_count
from segments
cross join versions
where segments.segment_count <> versions.version_count
