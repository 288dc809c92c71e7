-- One table of cases for every warehouse: each row returned is a text that parse_number() reads wrongly.
with cases as (
    select '10' as value_text, cast(10 as numeric(18, 6)) as expected
    union all select '-0.5', cast(-0.5 as numeric(18, 6))
    union all select '1.0000005', cast(1.000001 as numeric(18, 6))
    union all select '-1.0000005', cast(-1.000001 as numeric(18, 6))
    union all select '0.12345649999999999999', cast(0.123456 as numeric(18, 6))
    union all select '1e3', cast(1000 as numeric(18, 6))
    union all select '25E-1', cast(2.5 as numeric(18, 6))
    union all select '9.5e11', cast(950000000000 as numeric(18, 6))
    union all select '99999999999', cast(99999999999 as numeric(18, 6))
    union all select '999999999999', null
    union all select '1e12', null
    union all select '1e99', null
    union all select '9.9999999999999999e11', cast(999999999999.99999 as numeric(18, 6))
    union all select '0.5e-99', cast(0 as numeric(18, 6))
    union all select '5e-7', cast(0.000001 as numeric(18, 6))
    union all select '4.99999999999999999999999999999999999e-7', cast(0 as numeric(18, 6))
    union all select '-12345.6789e-3', cast(-12.345679 as numeric(18, 6))
    union all select '1.23456789e2', cast(123.456789 as numeric(18, 6))
    union all select '1.2e+5', cast(120000 as numeric(18, 6))
    union all select '1.5e0', cast(1.5 as numeric(18, 6))
    union all select '1e100', null
    union all select '1.', null
    union all select '.5', null
    union all select '+1', null
    union all select ' 1', null
    union all select '1 ', null
    union all select '1,5', null
    union all select '0x10', null
    union all select '١٢', null
    union all select 'NaN', null
    union all select 'Infinity', null
    union all select 'true', null
    union all select '', null
    union all select cast(null as varchar(65535)), null
),

parsed as (
    select
        value_text,
        expected,
        {{ parse_number('value_text') }} as actual
    from cases
)

select *
from parsed
where coalesce(actual, -1) <> coalesce(expected, -1)
    or (actual is null and expected is not null)
    or (actual is not null and expected is null)
