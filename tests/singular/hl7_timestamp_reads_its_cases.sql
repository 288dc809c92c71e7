-- One table of cases for every warehouse: each row returned is an HL7 time that is read wrongly.
with cases as (
    select '20260105101112' as moment_text, cast(null as varchar(65535)) as zone, timestamp '2026-01-05 10:11:12' as expected, 'second' as expected_precision, true as expected_assumed, date '2026-01-05' as expected_date
    union all select '2026', null, timestamp '2026-01-01 00:00:00', 'year', true, null
    union all select '202602', null, timestamp '2026-02-01 00:00:00', 'month', true, null
    union all select '20260203', null, timestamp '2026-02-03 00:00:00', 'day', true, date '2026-02-03'
    union all select '2026020304', null, timestamp '2026-02-03 04:00:00', 'hour', true, date '2026-02-03'
    union all select '202602030405', null, timestamp '2026-02-03 04:05:00', 'minute', true, date '2026-02-03'
    union all select '20260203040506.7', null, timestamp '2026-02-03 04:05:06.7', 'second', true, date '2026-02-03'
    union all select '20260203040506.123456789', null, timestamp '2026-02-03 04:05:06.123456', 'second', true, date '2026-02-03'
    union all select '19890118000000', null, timestamp '1989-01-18 00:00:00', 'second', true, date '1989-01-18'
    -- an offset says where it is, whatever the facility's zone
    union all select '20260203040506+0100', 'America/New_York', timestamp '2026-02-03 03:05:06', 'second', false, date '2026-02-03'
    union all select '202602030405-0330', null, timestamp '2026-02-03 07:35:00', 'minute', false, date '2026-02-03'
    union all select '20260203040506.5+0000', null, timestamp '2026-02-03 04:05:06.5', 'second', false, date '2026-02-03'
    union all select '2026+0100', null, timestamp '2025-12-31 23:00:00', 'year', false, null
    -- summer and winter, the hour that comes twice and the one that is skipped, a date in its own zone
    union all select '20260701120000', 'Europe/Berlin', timestamp '2026-07-01 10:00:00', 'second', false, date '2026-07-01'
    union all select '20260101120000', 'Europe/Berlin', timestamp '2026-01-01 11:00:00', 'second', false, date '2026-01-01'
    union all select '20261025023000', 'Europe/Berlin', timestamp '2026-10-25 01:30:00', 'second', false, date '2026-10-25'
    union all select '20260329023000', 'Europe/Berlin', timestamp '2026-03-29 01:30:00', 'second', false, date '2026-03-29'
    union all select '20260105', 'Asia/Kolkata', timestamp '2026-01-04 18:30:00', 'day', false, date '2026-01-05'
    union all select '20240229', null, timestamp '2024-02-29 00:00:00', 'day', true, date '2024-02-29'
    -- no times
    union all select '20260229', null, null, null, false, null
    union all select '20260431', null, null, null, false, null
    union all select '202613', null, null, null, false, null
    union all select '20260100', null, null, null, false, null
    union all select '2026010524', null, null, null, false, null
    union all select '202601051060', null, null, null, false, null
    union all select '20260105101160', null, null, null, false, null
    union all select '00000000', null, null, null, false, null
    union all select '202', null, null, null, false, null
    union all select '2026010', null, null, null, false, null
    union all select '20260105.5', null, null, null, false, null
    union all select '20260105101112.', null, null, null, false, null
    union all select '20260105101112+1500', null, null, null, false, null
    union all select '20260105101112+01:00', null, null, null, false, null
    union all select '20260105101112Z', null, null, null, false, null
    union all select ' 20260105', null, null, null, false, null
    union all select '2026-01-05', 'Europe/Berlin', null, null, false, null
    union all select '""', null, null, null, false, null
    union all select '', null, null, null, false, null
    union all select cast(null as varchar(65535)), null, null, null, false, null
),

parsed as (
    select
        *,
        {{ hl7_timestamp('moment_text', 'zone') }} as actual,
        {{ hl7_precision('moment_text') }} as actual_precision,
        coalesce({{ hl7_zone_is_assumed('moment_text', 'zone') }}, false) as actual_assumed,
        {{ hl7_date('moment_text') }} as actual_date
    from cases
)

select *
from parsed
where coalesce(actual, timestamp '1900-01-01') <> coalesce(expected, timestamp '1900-01-01')
    or coalesce(actual_precision, '') <> coalesce(expected_precision, '')
    or actual_assumed <> expected_assumed
    or coalesce(actual_date, date '1900-01-01') <> coalesce(expected_date, date '1900-01-01')
