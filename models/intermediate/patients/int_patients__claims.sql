with identifiers as (
    select * from {{ ref('stg_hl7__patient_identifiers') }}
),

identities as (
    select * from {{ ref('int_patients__identities') }}
),

-- what stands beside the chosen identifier belongs to the same patient
beside as (
    select
        identifiers.identifier_key,
        identifiers.is_patient_identifier,
        identities.identifier_key as owner_key,
        identities.message_at,
        identities.sequence_number,
        identities.message_sha256
    from identifiers
    inner join identities
        on identifiers.message_sha256 = identities.message_sha256
        and identifiers.segment_number = identities.segment_number
    where identifiers.segment_id = 'PID'
        or coalesce(identities.patient_effect, 'none') not in ('merge', 'move_identifier')
),

-- a merge brings along, and a move moves, the identifiers in MRG
brought as (
    select
        identifiers.identifier_key,
        identifiers.is_patient_identifier,
        identities.identifier_key as owner_key,
        identities.message_at,
        identities.sequence_number,
        identities.message_sha256
    from identifiers
    inner join identities
        on identifiers.message_sha256 = identities.message_sha256
        and identifiers.pid_number = identities.segment_number
    where identifiers.segment_id = 'MRG'
        and identities.segment_id = 'PID'
        and identities.patient_effect in ('merge', 'move_identifier')
),

claims as (
    select * from beside
    union all
    select * from brought
),

ranked as (
    select
        *,
        row_number() over (
            partition by identifier_key
            order by
                message_at desc nulls last,
                sequence_number desc nulls last,
                {{ text_order('message_sha256') }} desc,
                {{ text_order('owner_key') }} desc
        ) as position_from_last
    from claims
    where identifier_key <> owner_key
)

select
    identifier_key,
    owner_key,
    is_patient_identifier,
    message_at,
    message_sha256
from ranked
where position_from_last = 1
