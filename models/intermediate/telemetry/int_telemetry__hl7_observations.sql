with observations as (
    select * from {{ ref('stg_hl7__observations') }}
),

repeated_values as (
    select * from {{ ref('int_observations__repeated_values') }}
),

messages as (
    select * from {{ ref('stg_hl7__messages') }}
),

orders as (
    select * from {{ ref('stg_hl7__orders') }}
),

participations as (
    select * from {{ ref('stg_hl7__participations') }}
),

identities as (
    select * from {{ ref('int_patients__identities') }}
),

code_systems as (
    select * from {{ ref('code_systems') }}
),

mdc_metrics as (
    select * from {{ ref('mdc_metrics') }}
),

mdc_units as (
    select * from {{ ref('mdc_units') }}
),

statuses as (
    select * from {{ ref('observation_statuses') }}
),

-- IHE PCD-01: ORU^R01 with OBX-3 in MDC, in its first triple or in the alternate one
in_mdc as (
    select
        observations.*,
        messages._topic_id,
        messages._partition,
        messages._offset,
        messages.kafka_arrived_at,
        messages.arrived_at,
        messages.message_at,
        messages.time_zone,
        messages.sequence_number,
        coalesce(repeated_values.is_plain, true) as is_plain,
        case when own_systems.code_system = 'MDC' then observations.code else observations.alternate_code end
            as mdc_code,
        case when own_systems.code_system = 'MDC' then observations.code_text else observations.alternate_code_text end
            as mdc_reference_id,
        -- 1.0.0.0 and 1 are the same place: zeros say that a level does not apply
        {{ regexp_replace_all("coalesce(observations.sub_id, '')", '([.]0+)+$', '') }} as place
    from observations
    inner join messages on observations.message_sha256 = messages.message_sha256
    left join repeated_values
        on observations.message_sha256 = repeated_values.message_sha256
        and observations.segment_number = repeated_values.segment_number
    left join code_systems as own_systems on upper(observations.code_system) = own_systems.sent_code_system
    left join code_systems as alternate_systems
        on upper(observations.alternate_code_system) = alternate_systems.sent_code_system
    where messages.message_type = 'ORU'
        and messages.trigger_event = 'R01'
        and 'MDC' in (own_systems.code_system, alternate_systems.code_system)
),

equipment as (
    select
        *,
        row_number() over (
            partition by message_sha256, obr_number, coalesce(obx_number, 0) order by segment_number
        ) as device_rank
    from participations
    where device_id is not null
        and coalesce(role_code, 'EQUIP') = 'EQUIP'
),

with_devices as (
    select
        in_mdc.*,
        coalesce(in_mdc.device_id, own_equipment.device_id) as own_device_id,
        order_equipment.device_id as order_device_id
    from in_mdc
    left join equipment as own_equipment
        on in_mdc.message_sha256 = own_equipment.message_sha256
        and in_mdc.segment_number = own_equipment.obx_number
        and own_equipment.device_rank = 1
    left join equipment as order_equipment
        on in_mdc.message_sha256 = order_equipment.message_sha256
        and in_mdc.obr_number = order_equipment.obr_number
        and order_equipment.obx_number is null
        and order_equipment.device_rank = 1
),

-- a metric stands in a channel, that in a virtual device, that in the device: the nearest of them that is named
containers as (
    select
        parts.message_sha256,
        parts.segment_number,
        wholes.own_device_id as device_id,
        row_number() over (
            partition by parts.message_sha256, parts.segment_number
            order by length(wholes.place) desc, wholes.segment_number
        ) as container_rank
    from with_devices as parts
    inner join with_devices as wholes
        on parts.message_sha256 = wholes.message_sha256
        and parts.obr_number = wholes.obr_number
        and wholes.place <> ''
        and substring(parts.place, 1, length(wholes.place) + 1) = wholes.place || '.'
    where parts.own_device_id is null
        and wholes.own_device_id is not null
),

units_by_code as (
    select
        code,
        max(unit) as unit
    from mdc_units
    group by code
),

joined as (
    select
        with_devices.*,
        coalesce(with_devices.own_device_id, containers.device_id, with_devices.order_device_id) as instance_id,
        identities.authority as patient_authority,
        identities.identifier as patient_id,
        coalesce(
            metrics_by_code.metric_name,
            metrics_by_name.metric_name,
            with_devices.mdc_reference_id,
            with_devices.mdc_code
        ) as metric_name,
        coalesce(
            units_by_code.unit,
            units_by_text.unit,
            units_by_unit.unit,
            -- a number that nobody knows says less than the name beside it
            case
                when {{ matches('with_devices.unit', '^[0-9]+$') }} then with_devices.unit_text
            end,
            with_devices.unit
        ) as sent_unit,
        case
            when {{ hl7_is_time('with_devices.observed_at_text') }} then with_devices.observed_at_text
            when {{ hl7_is_time('orders.observed_at_text') }} then orders.observed_at_text
            else coalesce(with_devices.observed_at_text, orders.observed_at_text)
        end as measured_at_text,
        case
            when with_devices.has_more_values then null
            -- 120^130 and 1&200 are no 120 and no 1: nothing may stand beside what is read as the number
            when not with_devices.is_plain then null
            when with_devices.value_type = 'NM' then trim(with_devices.value_1)
            when with_devices.value_type = 'SN'
                and coalesce(trim(with_devices.value_1), '=') in ('', '=')
                and coalesce(with_devices.value_3, with_devices.value_4) is null
                then trim(with_devices.value_2)
        end as number_text,
        coalesce(with_devices.value_1, '') || coalesce(with_devices.value_2, '') as value_parts,
        statuses.effect,
        statuses.status_rank
    from with_devices
    left join containers
        on with_devices.message_sha256 = containers.message_sha256
        and with_devices.segment_number = containers.segment_number
        and containers.container_rank = 1
    left join orders
        on with_devices.message_sha256 = orders.message_sha256
        and with_devices.obr_number = orders.segment_number
    left join identities
        on with_devices.message_sha256 = identities.message_sha256
        and with_devices.pid_number = identities.segment_number
    left join mdc_metrics as metrics_by_code on with_devices.mdc_code = metrics_by_code.code
    left join mdc_metrics as metrics_by_name on with_devices.mdc_reference_id = metrics_by_name.reference_id
    left join units_by_code on with_devices.unit = units_by_code.code
    left join mdc_units as units_by_text on with_devices.unit_text = units_by_text.reference_id
    left join mdc_units as units_by_unit on with_devices.unit = units_by_unit.reference_id
    left join statuses on coalesce(with_devices.status, 'F') = statuses.status
),

final as (
    select
        message_sha256,
        segment_number,
        cast(_topic_id as varchar(65535)) as _topic_id,
        cast(_partition as integer) as _partition,
        cast(_offset as bigint) as _offset,
        cast(kafka_arrived_at as timestamp) as kafka_arrived_at,
        cast(arrived_at as timestamp) as arrived_at,
        cast(message_at as timestamp) as message_at,
        cast(instance_id as varchar(65535)) as device_id,
        cast(patient_authority as varchar(65535)) as patient_authority,
        cast(patient_id as varchar(65535)) as patient_id,
        cast(metric_name as varchar(65535)) as metric_name,
        cast(sub_id as varchar(65535)) as sub_id,
        cast(place as varchar(65535)) as place,
        cast(measured_at_text as varchar(65535)) as measured_at_text,
        cast({{ hl7_timestamp('measured_at_text', 'time_zone') }} as timestamp) as measured_at,
        cast({{ hl7_precision('measured_at_text') }} as varchar(65535)) as measured_at_precision,
        cast({{ hl7_zone_is_assumed('measured_at_text', 'time_zone') }} as boolean) as is_time_zone_assumed,
        cast(nullif(value_parts, '') as varchar(65535)) as metric_value_text,
        cast({{ parse_number('number_text') }} as numeric(18, 6)) as metric_value,
        cast(sent_unit as varchar(65535)) as unit,
        cast(sequence_number as bigint) as sequence_number,
        cast(is_cut as boolean) as is_cut,
        cast(effect as varchar(65535)) as effect,
        cast(status_rank as integer) as status_rank,
        -- the first that applies; the sender's word that it has no value, or takes one back, goes before all else
        cast(
            case
                when is_cut then null
                when effect = 'remove' and status = 'X' then 'not_obtained'
                when effect = 'remove' then 'removal'
                when effect = 'none' then 'not_a_result'
                when value_parts = '' and not has_more_values then 'no_value'
                when value_type is null or value_type not in ('NM', 'SN') then 'not_numeric'
                when instance_id is null then 'no_device'
            end as varchar(65535)
        ) as other_kind
    from joined
)

select * from final
