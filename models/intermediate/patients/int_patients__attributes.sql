{%- set attributes = ['family_name', 'given_name', 'birth_date', 'sex', 'postal_code'] -%}

with identifiers as (
    select * from {{ ref('patient_identifiers') }}
),

identities as (
    select * from {{ ref('int_patients__identities') }}
),

hl7_patients as (
    select * from {{ ref('stg_hl7__patients') }}
),

registrations as (
    select * from {{ ref('int_patients__registrations') }}
),

sexes as (
    select * from {{ ref('administrative_sex') }}
),

events as (
    select
        identities.identifier_key,
        identities.message_at as event_at,
        2 as source_rank,
        identities.sequence_number,
        identities.message_sha256,
        identities.segment_number,
        hl7_patients.family_name,
        hl7_patients.given_name,
        case
            when hl7_patients.birth_date_text = '""' then '""'
            else cast({{ hl7_date('hl7_patients.birth_date_text') }} as varchar(65535))
        end as birth_date,
        hl7_patients.sex_text,
        hl7_patients.postal_code
    from identities
    inner join hl7_patients
        on identities.message_sha256 = hl7_patients.message_sha256
        and identities.segment_number = hl7_patients.segment_number
    union all
    select
        identifier_key,
        changed_at as event_at,
        1 as source_rank,
        cast(null as bigint) as sequence_number,
        '' as message_sha256,
        0 as segment_number,
        family_name,
        given_name,
        cast(birth_date as varchar(65535)) as birth_date,
        gender as sex_text,
        postal_code
    from registrations
),

patient_events as (
    select
        identifiers.patient_key,
        events.event_at,
        events.source_rank,
        events.sequence_number,
        events.message_sha256,
        events.segment_number,
        events.family_name,
        events.given_name,
        events.birth_date,
        case when events.sex_text = '""' then '""' else sexes.sex end as sex,
        events.postal_code
    from events
    inner join identifiers on events.identifier_key = identifiers.identifier_key
    left join sexes on upper(trim(events.sex_text)) = sexes.sent_sex
),

-- the latest event that says anything about an attribute decides it; the registry goes first on ties
numbered as (
    select
        *,
        row_number() over (
            partition by patient_key
            order by
                event_at desc nulls last,
                source_rank,
                sequence_number desc nulls last,
                {{ text_order('message_sha256') }} desc,
                segment_number desc
        ) as position_from_last
    from patient_events
),

decided as (
    select
        patient_key,
        position_from_last,
        {% for attribute in attributes %}
        first_value({{ attribute }}) over (
            partition by patient_key
            order by case when {{ attribute }} is null then 1 else 0 end, position_from_last
            rows between unbounded preceding and unbounded following
        ) as {{ attribute }},
        {% endfor %}
        event_at
    from numbered
)

select
    patient_key,
    nullif(family_name, '""') as family_name,
    nullif(given_name, '""') as given_name,
    cast(nullif(birth_date, '""') as date) as birth_date,
    nullif(sex, '""') as sex,
    nullif(postal_code, '""') as postal_code,
    event_at as updated_at
from decided
where position_from_last = 1
