with changes as (
    select * from {{ ref('int_prescriptions__changes') }}
),

settings as (
    select * from {{ ref('int_prescriptions__settings') }}
),

unreadable as (
    select
        row_id,
        log_position
    from settings
    where not is_readable
    group by row_id, log_position
)

select
    changes.row_id,
    changes.log_position,
    changes._topic_id,
    changes._partition,
    changes._offset,
    coalesce(changes.reject_reason, 'unreadable_parameters') as reject_reason
from changes
left join unreadable
    on changes.row_id = unreadable.row_id
    and changes.log_position = unreadable.log_position
where changes.reject_reason is not null
    or unreadable.row_id is not null
