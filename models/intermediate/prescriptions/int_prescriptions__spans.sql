with changes as (
    select * from {{ ref('int_prescriptions__changes') }}
),

settings as (
    select * from {{ ref('int_prescriptions__settings') }}
),

rejects as (
    select * from {{ ref('int_prescriptions__rejects') }}
),

-- the first version holds from its start date, a later one not before it was made; each ends at its end
-- date or at the next change, whatever that change was
bounded as (
    select
        *,
        case
            when is_first_version then coalesce(starts_at, changed_at)
            else greatest(changed_at, coalesce(starts_at, changed_at))
        end as valid_from,
        least(coalesce(ends_at, next_changed_at), coalesce(next_changed_at, ends_at)) as valid_to
    from changes
    where not is_deletion
),

final as (
    select
        bounded.row_id,
        bounded.log_position,
        bounded.prescription_id,
        bounded.patient_key,
        bounded.patient_id,
        bounded.device_id,
        bounded.therapy,
        settings.metric_name,
        settings.prescribed_value,
        settings.tolerance,
        coalesce(bounded.starts_at, bounded.changed_at) as starts_at,
        bounded.changed_at,
        bounded.valid_from,
        bounded.valid_to
    from bounded
    inner join settings
        on bounded.row_id = settings.row_id
        and bounded.log_position = settings.log_position
    left join rejects
        on bounded.row_id = rejects.row_id
        and bounded.log_position = rejects.log_position
    where rejects.row_id is null
        and (bounded.valid_to is null or bounded.valid_from < bounded.valid_to)
)

select * from final
