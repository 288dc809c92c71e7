with sightings as (
    select * from {{ ref('int_patients__sightings') }}
),

groups as (
    select * from {{ ref('int_patients__groups') }}
),

claims as (
    select * from {{ ref('int_patients__claims') }}
),

registrations as (
    select * from {{ ref('int_patients__registrations') }}
),

identifiers as (
    select
        identifier_key,
        authority,
        identifier,
        max(case when source = 'hl7' then 1 else 0 end) = 1 as is_in_hl7,
        max(case when source = 'telemetry' then 1 else 0 end) = 1 as is_in_telemetry,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at
    from sightings
    group by identifier_key, authority, identifier
),

-- an identifier that never stood for a patient itself belongs to the one it was last told to belong to
resolved as (
    select
        identifiers.*,
        coalesce(own_groups.patient_key, owner_groups.patient_key) as patient_key
    from identifiers
    left join groups as own_groups on identifiers.identifier_key = own_groups.identifier_key
    left join claims on identifiers.identifier_key = claims.identifier_key
    left join groups as owner_groups on claims.owner_key = owner_groups.identifier_key
),

final as (
    select
        cast(resolved.identifier_key as varchar(65535)) as identifier_key,
        cast(resolved.authority as varchar(65535)) as authority,
        cast(resolved.identifier as varchar(65535)) as identifier,
        cast(resolved.patient_key as varchar(65535)) as patient_key,
        cast(patients.identifier as varchar(65535)) as patient_id,
        cast(patients.authority as varchar(65535)) as assigning_authority,
        cast(resolved.identifier_key = resolved.patient_key as boolean) as is_surviving,
        cast(resolved.is_in_hl7 as boolean) as is_in_hl7,
        cast(registrations.identifier_key is not null as boolean) as is_in_ehr,
        cast(resolved.is_in_telemetry as boolean) as is_in_telemetry,
        cast(resolved.first_seen_at as timestamp) as first_seen_at,
        cast(resolved.last_seen_at as timestamp) as last_seen_at
    from resolved
    inner join identifiers as patients on resolved.patient_key = patients.identifier_key
    left join registrations on resolved.identifier_key = registrations.identifier_key
)

select * from final
