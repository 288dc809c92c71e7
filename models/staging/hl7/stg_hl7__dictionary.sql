with names as (
    select * from {{ ref('hl7_dictionary') }}
),

fields as (
    select * from names
    where field > 0
),

components as (
    select * from names
    where component > 0
),

-- a component is part of a field as long as the field has its data type
components_of_fields as (
    select
        fields.element as segment_id,
        fields.field,
        components.component,
        fields.name as field_name,
        components.name as component_name,
        components.datatype,
        greatest(fields.from_version, components.from_version) as from_version,
        least(fields.to_version, components.to_version) as to_version
    from fields
    inner join components
        on fields.datatype = components.element
        and fields.from_version <= components.to_version
        and fields.to_version >= components.from_version
),

positions as (
    select
        element as segment_id,
        field,
        component,
        name as field_name,
        cast(null as varchar(65535)) as component_name,
        datatype,
        from_version,
        to_version
    from fields
    union all
    select * from components_of_fields
),

final as (
    select
        cast(segment_id as varchar(65535)) as segment_id,
        cast(field as integer) as field,
        cast(component as integer) as component,
        cast(field_name as varchar(65535)) as field_name,
        cast(component_name as varchar(65535)) as component_name,
        cast(datatype as varchar(65535)) as datatype,
        cast(from_version as varchar(65535)) as from_version,
        cast(to_version as varchar(65535)) as to_version
    from positions
)

select * from final
