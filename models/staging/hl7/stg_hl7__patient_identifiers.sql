{{ config(materialized='table') }}

{%- set sources = [('PID', 3), ('PID', 2), ('MRG', 1), ('MRG', 4)] -%}

with messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

segments as (
    select * from {{ ref('stg_hl7__segments') }}
),

authorities as (
    select * from {{ ref('identifier_authorities') }}
),

identifier_types as (
    select * from {{ ref('identifier_types') }}
),

identifier_lists as (
    {% for segment_id, field in sources %}
    select
        message_sha256,
        segment_number,
        segment_id,
        pid_number,
        {{ field }} as field_number,
        {{ json_node('fields', [field ~ '']) }} as repetitions
    from segments
    where segment_id = '{{ segment_id }}'
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

repeated as (
    {{ unnest_json_array('identifier_lists', 'repetitions', 'repetition', 'repetition_number') }}
),

components as (
    select
        message_sha256,
        segment_number,
        segment_id,
        coalesce(pid_number, segment_number) as pid_number,
        field_number,
        repetition_number,
        {{ hl7_text('repetition', ['1']) }} as identifier,
        {{ hl7_text('repetition', ['4']) }} as namespace,
        {{ hl7_text('repetition', ['4.2']) }} as universal_id,
        {{ hl7_text('repetition', ['5']) }} as identifier_type
    from repeated
),

cleaned as (
    select
        message_sha256,
        segment_number,
        segment_id,
        pid_number,
        field_number,
        repetition_number,
        {{ hl7_clean('identifier') }} as identifier,
        coalesce({{ hl7_clean('namespace') }}, {{ hl7_clean('universal_id') }}) as written_authority,
        upper({{ hl7_clean('identifier_type') }}) as identifier_type
    from components
),

named as (
    select
        cleaned.*,
        messages.facility_id,
        coalesce(cleaned.written_authority, messages.facility_id, '(none)') as sent_authority
    from cleaned
    inner join messages on cleaned.message_sha256 = messages.message_sha256
    where cleaned.identifier is not null
),

mapped as (
    select
        named.*,
        coalesce(
            facility_authorities.authority,
            general_authorities.authority,
            nullif(named.sent_authority, '(none)')
        ) as authority,
        identifier_types.preference,
        coalesce(identifier_types.is_patient_identifier, true) as is_patient_identifier
    from named
    left join authorities as facility_authorities
        on named.facility_id = facility_authorities.facility_id
        and named.sent_authority = facility_authorities.sent_authority
    left join authorities as general_authorities
        on general_authorities.facility_id = '*'
        and named.sent_authority = general_authorities.sent_authority
    left join identifier_types on named.identifier_type = identifier_types.identifier_type
),

final as (
    select
        message_sha256,
        segment_number,
        segment_id,
        pid_number,
        field_number,
        repetition_number,
        {{ hash_key(['authority', 'identifier']) }} as identifier_key,
        authority,
        identifier,
        identifier_type,
        preference,
        is_patient_identifier
    from mapped
    where authority is not null
)

select * from final
