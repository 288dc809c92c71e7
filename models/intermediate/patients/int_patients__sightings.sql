with messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

hl7_identifiers as (
    select * from {{ ref('stg_hl7__patient_identifiers') }}
),

ehr_patients as (
    select * from {{ ref('stg_ehr__patients') }}
),

ehr_devices as (
    select * from {{ ref('stg_ehr__devices') }}
),

ehr_prescriptions as (
    select * from {{ ref('stg_ehr__prescriptions') }}
),

telemetry as (
    select * from {{ ref('int_telemetry__records') }}
),

ehr_rows as (
    select patient_id, changed_at from ehr_patients
    union all
    select patient_id, changed_at from ehr_devices
    union all
    select patient_id, changed_at from ehr_prescriptions
),

seen as (
    select
        'hl7' as source,
        hl7_identifiers.authority,
        hl7_identifiers.identifier,
        min(messages.message_at) as first_seen_at,
        max(messages.message_at) as last_seen_at
    from hl7_identifiers
    inner join messages on hl7_identifiers.message_sha256 = messages.message_sha256
    group by hl7_identifiers.authority, hl7_identifiers.identifier
    union all
    select
        'ehr' as source,
        '{{ var("ehr_patient_authority") }}' as authority,
        ehr_rows.patient_id as identifier,
        min(ehr_rows.changed_at) as first_seen_at,
        max(ehr_rows.changed_at) as last_seen_at
    from ehr_rows
    where ehr_rows.patient_id is not null
    group by ehr_rows.patient_id
    union all
    select
        'telemetry' as source,
        telemetry.patient_authority as authority,
        telemetry.patient_id as identifier,
        min(telemetry.measured_at) as first_seen_at,
        max(telemetry.measured_at) as last_seen_at
    from telemetry
    where telemetry.is_reading
        and telemetry.patient_id is not null
    group by telemetry.patient_authority, telemetry.patient_id
)

select
    {{ hash_key(['authority', 'identifier']) }} as identifier_key,
    source,
    authority,
    identifier,
    first_seen_at,
    last_seen_at
from seen
