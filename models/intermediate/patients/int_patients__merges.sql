with identities as (
    select * from {{ ref('int_patients__identities') }}
)

select
    surviving.message_sha256,
    merged.segment_number,
    surviving.trigger_event,
    surviving.facility_id,
    surviving.message_at,
    merged.identifier_key as prior_key,
    surviving.identifier_key as surviving_key
from identities as surviving
inner join identities as merged
    on surviving.message_sha256 = merged.message_sha256
    and surviving.segment_number = merged.pid_number
where surviving.segment_id = 'PID'
    and merged.segment_id = 'MRG'
    and surviving.patient_effect = 'merge'
