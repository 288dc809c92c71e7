with positions as (
    select * from {{ source('raw', 'load_positions') }}
),

batches as (
    select * from {{ source('raw', 'load_batches') }}
),

-- by name: the role that builds may not read the rest
rejected_records as (
    select
        _topic,
        _topic_id,
        _partition
    from {{ source('raw_restricted', 'rejected_records') }}
),

-- what offsets say went in; never the loader's own sum, so that a lost row shows
received as (
    select
        positions.topic,
        positions.topic_id,
        positions.partition as partition_number,
        max(positions.next_offset) - min(positions.first_offset) as offsets_passed
    from positions
    group by positions.topic, positions.topic_id, positions.partition
),

-- offsets that hold no record (control records, aborted transactions, compaction) or were passed over on purpose;
-- and what cdw purge took away again
explained as (
    select
        batches.topic_id,
        batches.partition as partition_number,
        sum(batches.explained_count) as offsets_explained,
        sum(
            case when batches.kind = 'purge' then -batches.row_count - batches.reject_count else 0 end
        ) as records_purged
    from batches
    group by batches.topic_id, batches.partition
),

loaded as (
    {% for table in var('topics').values() %}
    select
        _topic as topic,
        _topic_id as topic_id,
        _partition as partition_number,
        count(*) as records_loaded
    from {{ source(table.split('.')[0], table.split('.')[1]) }}
    group by _topic, _topic_id, _partition
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

rejected as (
    select
        _topic as topic,
        _topic_id as topic_id,
        _partition as partition_number,
        count(*) as records_rejected
    from rejected_records
    group by _topic, _topic_id, _partition
),

-- rows that no position speaks of are rows too
partitions as (
    select topic, topic_id, partition_number from received
    union
    select topic, topic_id, partition_number from loaded
    union
    select topic, topic_id, partition_number from rejected
),

counted as (
    select
        partitions.topic,
        partitions.topic_id,
        partitions.partition_number,
        coalesce(received.offsets_passed, 0) - coalesce(explained.offsets_explained, 0) as records_received,
        coalesce(loaded.records_loaded, 0) as records_loaded,
        coalesce(rejected.records_rejected, 0) as records_rejected,
        coalesce(explained.records_purged, 0) as records_purged
    from partitions
    left join received
        on partitions.topic_id = received.topic_id
        and partitions.partition_number = received.partition_number
    left join explained
        on partitions.topic_id = explained.topic_id
        and partitions.partition_number = explained.partition_number
    left join loaded
        on partitions.topic_id = loaded.topic_id
        and partitions.partition_number = loaded.partition_number
    left join rejected
        on partitions.topic_id = rejected.topic_id
        and partitions.partition_number = rejected.partition_number
),

final as (
    select
        cast({{ hash_key(['topic_id', 'partition_number']) }} as varchar(65535)) as reconciliation_key,
        cast(topic as varchar(65535)) as topic,
        cast(topic_id as varchar(65535)) as topic_id,
        cast(partition_number as integer) as partition,
        cast(records_received as bigint) as records_received,
        cast(records_loaded as bigint) as records_loaded,
        cast(records_rejected as bigint) as records_rejected,
        cast(records_purged as bigint) as records_purged,
        cast(records_received = records_loaded + records_rejected + records_purged as boolean) as is_balanced
    from counted
)

select * from final
