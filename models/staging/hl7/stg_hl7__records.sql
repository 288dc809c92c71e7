{{ config(materialized='table') }}

with records as (
    select * from {{ source('raw', 'hl7_messages') }}
),

-- a message is large and costly to parse: what heads it is taken out of it once
final as (
    select
        _topic_id,
        _partition,
        _offset,
        -- only a time that Kafka set when the record came in tells when it came in
        case when _timestamp_type = 'LogAppendTime' then _timestamp end as kafka_arrived_at,
        _loaded_at as loaded_at,
        {{ json_node('payload', ['meta']) }} as meta,
        -- MSH is the first segment by definition, and EVN the second where there is one
        {{ json_node('payload', ['segments', 0, 'fields']) }} as fields,
        {{ json_node('payload', ['segments', 1]) }} as second_segment
    from records
    where payload is not null
)

select * from final
