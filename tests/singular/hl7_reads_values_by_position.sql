-- Each row returned is a document from which an HL7 path is read wrongly.
with cases as (
    select '{"3": [{"1": "12345", "4": "HOSP", "4.2": "1.2.3"}, {"1": "678"}]}' as document_text, '12345' as id, 'HOSP' as namespace, '1.2.3' as oid, '678' as second_id, cast(null as varchar(65535)) as deep
    union all select '{"3": [{"1": " a\nb "}]}', ' a' || chr(10) || 'b ', null, null, null, null
    union all select '{"3": [{"1": "\"\""}]}', '""', null, null, null, null
    union all select '{"3": [{"1": {"sha256": "00", "bytes": 60001}}]}', null, null, null, null, null
    union all select '{"3": [{"1": 5}]}', null, null, null, null, null
    union all select '{"3": []}', null, null, null, null, null
    union all select '{"3": "flat"}', null, null, null, null, null
    union all select '{"33": [{"1": "other"}]}', null, null, null, null, null
    union all select '{}', null, null, null, null, null
    -- a later repetition, numbers of two digits, which are no prefixes of one another; an empty repetition before it
    union all select '{"11": [{"12.3": "first"}, {}, {"1": "1", "12": "12", "12.3": "deep", "12.30": "30"}], "1": [{"12.3": "no"}]}', null, null, null, null, 'deep'
    -- the first subcomponent stands under the bare component only
    union all select '{"3": [{"1.1": "no", "4.1": "no"}]}', null, null, null, null, null
),

documents as (
    select
        *,
        {{ parse_json('document_text') }} as fields
    from cases
),

parsed as (
    select
        document_text,
        id,
        namespace,
        oid,
        second_id,
        deep,
        {{ hl7('PID-3') }} as actual_id,
        {{ hl7('PID-3.1.1') }} as actual_subcomponent,
        {{ hl7('PID-3.4.1') }} as actual_namespace,
        {{ hl7('PID-3.4.2') }} as actual_oid,
        {{ hl7('PID-3.1', 1) }} as actual_second_id,
        {{ hl7('PID-3', 1) }} as actual_second_field,
        {{ hl7('PID-11.12.3', 2) }} as actual_deep
    from documents
)

select *
from parsed
where coalesce(id, '-') <> coalesce(actual_id, '-')
    or coalesce(id, '-') <> coalesce(actual_subcomponent, '-')
    or coalesce(namespace, '-') <> coalesce(actual_namespace, '-')
    or coalesce(oid, '-') <> coalesce(actual_oid, '-')
    or coalesce(second_id, '-') <> coalesce(actual_second_id, '-')
    or coalesce(second_id, '-') <> coalesce(actual_second_field, '-')
    or coalesce(deep, '-') <> coalesce(actual_deep, '-')
