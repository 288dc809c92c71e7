with identities as (
    select * from {{ ref('int_patients__identities') }}
)

select
    surviving.message_sha256,
    prior.segment_number,
    surviving.trigger_event,
    surviving.facility_id,
    surviving.message_at,
    prior.identifier_key as prior_key,
    surviving.identifier_key as surviving_key
from identities as surviving
inner join identities as prior
    on surviving.message_sha256 = prior.message_sha256
    and surviving.segment_number = prior.pid_number
where surviving.segment_id = 'PID'
    and prior.segment_id = 'MRG'
    and surviving.patient_effect = 'merge'
