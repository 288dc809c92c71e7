-- by name: the role that builds may not read the rest
with rejected_records as (
    select
        _topic,
        reason
    from {{ source('raw_restricted', 'rejected_records') }}
),

hl7_rejects as (
    select * from {{ ref('stg_hl7__rejects') }}
),

hl7_messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

telemetry_rejects as (
    select * from {{ ref('int_telemetry__rejects') }}
),

message_rejects as (
    select * from {{ ref('int_messages__rejects') }}
),

encounter_rejects as (
    select * from {{ ref('int_encounters__rejects') }}
),

observation_rejects as (
    select * from {{ ref('int_observations__rejects') }}
),

ehr_rejects as (
    select * from {{ ref('int_ehr__rejects') }}
),

prescription_rejects as (
    select * from {{ ref('int_prescriptions__rejects') }}
),

-- what no warehouse can hold, or not every one in the same way
refused_by_loader as (
    select
        'transport' as gate,
        _topic as topic,
        reason,
        count(*) as record_count
    from rejected_records
    group by _topic, reason
),

-- what is no HL7 v2 message; not what a later decoder has made one of, for the same bytes are one message
refused_by_decoder as (
    select
        'decoder' as gate,
        {{ topic_of('raw.hl7_messages') }} as topic,
        hl7_rejects.reason,
        count(*) as record_count
    from hl7_rejects
    left join hl7_messages on hl7_rejects.message_sha256 = hl7_messages.message_sha256
    where hl7_messages.message_sha256 is null
    group by hl7_rejects.reason
),

-- what was received and read, but is no fact
no_facts as (
    select {{ topic_of('raw.device_telemetry') }} as topic, reject_reason from telemetry_rejects
    where sent_as = 'json'
    union all
    select {{ topic_of('raw.hl7_messages') }} as topic, reject_reason from telemetry_rejects
    where sent_as = 'hl7'
    union all
    select {{ topic_of('raw.hl7_messages') }} as topic, reject_reason from message_rejects
    union all
    select {{ topic_of('raw.hl7_messages') }} as topic, reject_reason from encounter_rejects
    union all
    select {{ topic_of('raw.hl7_messages') }} as topic, reject_reason from observation_rejects
    union all
    select {{ topic_of('raw.healthcare_public_patients') }} as topic, reject_reason from ehr_rejects
    where ehr_table = 'patients'
    union all
    select {{ topic_of('raw.healthcare_public_devices') }} as topic, reject_reason from ehr_rejects
    where ehr_table = 'devices'
    union all
    select {{ topic_of('raw.healthcare_public_prescriptions') }} as topic, reject_reason from ehr_rejects
    where ehr_table = 'prescriptions'
    union all
    select {{ topic_of('raw.healthcare_public_prescriptions') }} as topic, reject_reason from prescription_rejects
),

refused_by_models as (
    select
        'meaning' as gate,
        topic,
        reject_reason as reason,
        count(*) as record_count
    from no_facts
    group by topic, reject_reason
),

gates as (
    select * from refused_by_loader
    union all
    select * from refused_by_decoder
    union all
    select * from refused_by_models
),

final as (
    select
        cast({{ hash_key(['gate', 'topic', 'reason']) }} as varchar(65535)) as reject_key,
        cast(gate as varchar(65535)) as gate,
        cast(topic as varchar(65535)) as topic,
        cast(reason as varchar(65535)) as reason,
        cast(record_count as bigint) as record_count
    from gates
)

select * from final
