-- Each row returned is a prescription version that begins before the one ahead of it has ended: a reading
-- between them would be judged twice.
with versions as (
    select * from {{ ref('dim_prescriptions') }}
),

beside_next as (
    select
        prescription_version_key,
        valid_to,
        lead(valid_from) over (
            partition by patient_key, device_id, metric_name order by valid_from, prescription_version_key
        ) as next_valid_from
    from versions
)

select
    prescription_version_key,
    valid_to,
    next_valid_from
from beside_next
where next_valid_from < coalesce(valid_to, timestamp '9999-12-31')
