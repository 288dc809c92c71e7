with records as (
    select * from {{ source('raw', 'hl7_rejected') }}
),

final as (
    select
        _topic_id,
        _partition,
        _offset,
        {{ json_string('payload', ['code']) }} as reason,
        {{ json_string('payload', ['sha256']) }} as message_sha256
    from records
    where payload is not null
)

select * from final
