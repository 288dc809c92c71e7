-- One table of cases for every warehouse: each row returned is a document json_string() reads wrongly.
with cases as (
    select '{"field": "DEV-1"}' as document_text, 'DEV-1' as expected
    union all select '{"field": " DEV 1 "}', ' DEV 1 '
    union all select '{"field": "caf\u00e9"}', 'café'
    union all select '{"field": 12}', '12'
    union all select '{"field": -7}', '-7'
    union all select '{"field": ""}', null
    union all select '{"field": "  "}', null
    union all select '{"field": "a\u001fb"}', null
    union all select '{"field": "a\nb"}', null
    union all select '{"field": 1.0}', null
    union all select '{"field": 1e2}', null
    union all select '{"field": true}', null
    union all select '{"field": null}', null
    union all select '{"field": ["a"]}', null
    union all select '{"field": {"a": "b"}}', null
    union all select '{"other": "a"}', null
    union all select cast(null as varchar(65535)), null
),

documents as (
    select
        document_text,
        expected,
        {{ parse_json('document_text') }} as document
    from cases
),

parsed as (
    select
        document_text,
        expected,
        {{ json_string('document', ['field']) }} as actual
    from documents
)

select *
from parsed
where coalesce(actual, '<null>') <> coalesce(expected, '<null>')
