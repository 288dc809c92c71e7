-- One table of cases for every warehouse: each row returned is a text that parse_timestamp() reads wrongly.
with cases as (
    select '2026-01-05T10:11:12Z' as moment_text, timestamp '2026-01-05 10:11:12' as expected
    union all select '2026-01-05T10:11:12', timestamp '2026-01-05 10:11:12'
    union all select '2026-01-05 10:11', timestamp '2026-01-05 10:11:00'
    union all select '2026-01-05T10:11+02:00', timestamp '2026-01-05 08:11:00'
    union all select '2026-01-05T10:11:12.5+0530', timestamp '2026-01-05 04:41:12.5'
    union all select '2026-01-05T10:11:12.123456789-08:00', timestamp '2026-01-05 18:11:12.123456'
    union all select '2026-01-05T10:11:12.999999999Z', timestamp '2026-01-05 10:11:12.999999'
    union all select '2024-02-29T00:00:00Z', timestamp '2024-02-29 00:00:00'
    union all select '2026-12-31T23:59:59.1-01:00', timestamp '2027-01-01 00:59:59.1'
    union all select '1767607872000', timestamp '2026-01-05 10:11:12'
    union all select '1767607872001', timestamp '2026-01-05 10:11:12.001'
    union all select '0', timestamp '1970-01-01 00:00:00'
    union all select '99999999999999', null
    union all select '-1', null
    union all select '2026-02-29T00:00:00Z', null
    union all select '2026-02-30T00:00:00Z', null
    union all select '2026-04-31T00:00:00Z', null
    union all select '2026-13-01T00:00:00Z', null
    union all select '2026-00-01T00:00:00Z', null
    union all select '2026-01-05T24:00:00Z', null
    union all select '2026-01-05T10:60:00Z', null
    union all select '2026-01-05T10:11:60Z', null
    union all select '2026-01-05T10:11:12.Z', null
    union all select '2026-01-05T10:11:12+15:00', null
    union all select '2026-01-05', null
    union all select '05/01/2026 10:11', null
    union all select '0026-01-05T10:11:12Z', null
    union all select 'yesterday', null
    union all select '', null
    union all select cast(null as varchar(65535)), null
),

parsed as (
    select
        moment_text,
        expected,
        {{ parse_timestamp('moment_text') }} as actual
    from cases
)

select *
from parsed
where coalesce(actual, timestamp '1900-01-01') <> coalesce(expected, timestamp '1900-01-01')
