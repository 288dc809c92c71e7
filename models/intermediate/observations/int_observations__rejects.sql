{{ config(materialized='view') }}

with versions as (
    select * from {{ ref('int_observations__versions') }}
),

vitals as (
    select * from {{ ref('int_observations__vitals') }}
),

final as (
    select
        _topic_id,
        _partition,
        _offset,
        message_sha256,
        segment_number,
        'observation' as refused_as,
        reject_reason
    from versions
    where reject_reason is not null
    union all
    select
        _topic_id,
        _partition,
        _offset,
        message_sha256,
        segment_number,
        'vital' as refused_as,
        reject_reason
    from vitals
    where reject_reason is not null
)

select * from final
