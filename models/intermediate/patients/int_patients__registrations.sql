with records as (
    select * from {{ ref('stg_ehr__patients') }}
),

-- the last word of the change log on each row of the registry
row_states as (
    select
        *,
        row_number() over (
            partition by row_id
            order by
                changed_at desc,
                log_sequence desc nulls last,
                {{ text_order('_topic_id') }} desc,
                _partition desc,
                _offset desc
        ) as position_from_last
    from records
    where row_id is not null
        and changed_at is not null
        and operation in ('c', 'r', 'u', 'd')
),

-- two rows for one patient: the one that was changed last
patient_states as (
    select
        *,
        row_number() over (
            partition by patient_id
            order by changed_at desc, log_sequence desc nulls last, length(row_id) desc, {{ text_order('row_id') }} desc
        ) as row_rank
    from row_states
    where position_from_last = 1
        and operation <> 'd'
        and patient_id is not null
)

select
    {{ hash_key(["'" ~ var('ehr_patient_authority') ~ "'", 'patient_id']) }} as identifier_key,
    patient_id,
    family_name,
    given_name,
    gender,
    birth_date,
    postal_code,
    changed_at
from patient_states
where row_rank = 1
