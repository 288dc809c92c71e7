with changes as (
    select * from {{ ref('int_prescriptions__changes') }}
),

readable_changes as (
    select
        row_id,
        log_position,
        parameters
    from changes
    where not is_deletion
        and reject_reason is null
),

elements as (
    {{ unnest_json_array('readable_changes', 'parameters', 'parameter', 'parameter_position') | indent(4) }}
),

fields as (
    select
        row_id,
        log_position,
        parameter_position,
        case
            when {{ json_kind('parameter') }} = 'object' then {{ has_repeated_key('parameter') }}
            else true
        end as is_malformed,
        {{ json_string('parameter', ['parameter_name']) }} as metric_name,
        {{ json_text('parameter', ['parameter_value']) }} as prescribed_value_text,
        {{ json_text('parameter', ['parameter_tolerance']) }} as tolerance_text
    from elements
),

typed as (
    select
        *,
        {{ parse_number('prescribed_value_text') }} as prescribed_value,
        {{ parse_number('tolerance_text') }} as tolerance
    from fields
),

final as (
    select
        cast(row_id as varchar(65535)) as row_id,
        cast(log_position as bigint) as log_position,
        cast(parameter_position as bigint) as parameter_position,
        cast(metric_name as varchar(65535)) as metric_name,
        cast(prescribed_value as numeric(18, 6)) as prescribed_value,
        cast(tolerance as numeric(18, 6)) as tolerance,
        cast(
            not is_malformed
            and metric_name is not null
            and prescribed_value is not null
            and (tolerance_text is null or coalesce(tolerance, -1) >= 0)
            and count(*) over (partition by row_id, log_position, metric_name) = 1
            as boolean
        ) as is_readable
    from typed
)

select * from final
