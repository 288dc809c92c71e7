{{ config(materialized='table') }}

with records as (
    select * from {{ source('raw', 'hl7_messages') }}
),

messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

arrays as (
    select
        messages.message_sha256,
        {{ json_node('records.payload', ['segments']) }} as segments
    from records
    inner join messages
        on records._topic_id = messages._topic_id
        and records._partition = messages._partition
        and records._offset = messages._offset
),

elements as (
    {{ unnest_json_array('arrays', 'segments', 'segment', 'segment_number') }}
),

texts as (
    select
        message_sha256,
        segment_number,
        {{ json_string('segment', ['id']) }} as segment_id,
        {{ json_text('segment', ['parent', 'PID']) }} as pid_number_text,
        {{ json_text('segment', ['parent', 'ORC']) }} as orc_number_text,
        {{ json_text('segment', ['parent', 'OBR']) }} as obr_number_text,
        {{ json_text('segment', ['parent', 'OBX']) }} as obx_number_text,
        {{ json_node('segment', ['fields']) }} as fields
    from elements
),

final as (
    select
        cast(message_sha256 as varchar(65535)) as message_sha256,
        cast(segment_number as bigint) as segment_number,
        cast(segment_id as varchar(65535)) as segment_id,
        {{ parse_bigint('pid_number_text') }} as pid_number,
        {{ parse_bigint('orc_number_text') }} as orc_number,
        {{ parse_bigint('obr_number_text') }} as obr_number,
        {{ parse_bigint('obx_number_text') }} as obx_number,
        fields
    from texts
)

select * from final
