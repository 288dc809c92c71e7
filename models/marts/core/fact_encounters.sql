with encounters as (
    select * from {{ ref('int_encounters__states') }}
),

identifiers as (
    select * from {{ ref('patient_identifiers') }}
),

-- HL7's null takes a value away
final as (
    select
        cast(encounters.encounter_key as varchar(65535)) as encounter_key,
        cast(encounters.patient_key as varchar(65535)) as patient_key,
        cast(identifiers.identifier as varchar(65535)) as patient_id,
        cast(encounters.facility_id as varchar(65535)) as facility_id,
        cast(encounters.visit_number as varchar(65535)) as visit_number,
        cast(nullif(encounters.class, '""') as varchar(65535)) as class,
        cast(encounters.admitted_at as timestamp) as admitted_at,
        cast(encounters.discharged_at as timestamp) as discharged_at,
        cast(encounters.is_cancelled as boolean) as is_cancelled,
        cast(encounters.is_time_zone_assumed as boolean) as is_time_zone_assumed,
        cast(nullif(encounters.point_of_care, '""') as varchar(65535)) as point_of_care,
        cast(nullif(encounters.room, '""') as varchar(65535)) as room,
        cast(nullif(encounters.bed, '""') as varchar(65535)) as bed,
        cast(nullif(encounters.attending_provider_id, '""') as varchar(65535)) as attending_provider_id
    from encounters
    inner join identifiers on encounters.patient_key = identifiers.identifier_key
)

select * from final
