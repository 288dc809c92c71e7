"""The transport gate: what passes, what does not, and why."""

import base64
import json
import re
import time
from hashlib import sha256

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from loaders.gate import Gate, is_tombstone, original
from loaders.hl7.decoder import decode
from loaders.hl7.publish import publish_message
from loaders.topics import load_topics
from tests.conftest import PROJECT

TOPICS = load_topics(PROJECT)
LIMIT = 4_000_000
TELEMETRY = Gate(TOPICS["device.telemetry"], LIMIT)
to_json = msgspec.json.Encoder().encode
ORIGINALS = Gate(TOPICS["hl7.originals"], LIMIT)


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


PASS = {
    "plain": b'{"device_id":"D1","ts":"2026-01-01T00:00:00Z","metric_value":10.25}',
    "white space around": b' \t{"a":1} \r',
    "tombstone": b"null",
    "tombstone in white space": b" null\r",
    "line separator within a string": '{"a":"\u2028\u2029\x85"}'.encode(),
    "surrogate pair": rb'{"a":"\ud83d\ude00"}',
    "escapes": rb'{"a":"\"\\\/\b\f\n\r\t\u00e9"}',
    "escaped backslash before u0000": rb'{"a":"\\u0000"}',
    "same key in two objects": b'{"a":{"b":1},"c":{"b":1}}',
    "known key within a string": b'{"a":"Device_ID"}',
    "number as a string": b'{"metric_value":"1e999"}',
    "exponent": b'{"a":1e5,"b":-2.5E-7,"c":1E+05}',
    "just below 10^11": b'{"a":99999999999.5,"b":-9.9e10}',
    "seventeen digits that come back": b'{"a":0.30000000000000004}',
    "long integer": b'{"a":' + b"9" * 38 + b"}",
    "long negative integer": b'{"a":-' + b"9" * 38 + b"}",
    "depth": nested(100),
    "many objects, none deep": b'{"a":[' + b",".join([b'{"b":[1]}'] * 500) + b"]}",
    "brackets within a string": b'{"a":"' + b"[" * 500 + b'\\""}',
    "longest string": b'{"a":"' + b"x" * 65_535 + b'"}',
    "longest record": b'{"a":[' + b",".join([b'"%b"' % (b"x" * 997)] * 3999) + b'],"bc":1}',
    "empty object": b"{}",
    "empty key": b'{"":1}',
}

REJECT = {
    "E_TOO_LARGE": [b" " * (LIMIT + 1), b'{"a":"' + b"x" * 20_000_000 + b'"}'],
    "E_NOT_UTF8": [
        b'{"a":"\xff"}',
        b'{"a":"\xc3"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\x80"}',
        '{"a":1}'.encode("utf-16"),
    ],
    "E_NOT_JSON": [
        b"",
        b" ",
        b"\r",
        b"garbage",
        b'{"a":1',
        b'{"a":1}}',
        b'{"a":1}{"a":2}',
        b'{"a":1} // no',
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":.5}',
        b'{"a":+1}',
        b'{"a":1e}',
        b'{"a":0x1F}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":nan}',
        b'{"a":True}',
        b"nul",
        b"NULL",
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\x00"}',
        b'{"a":"\t"}',
        b'{"a":"\\x41"}',
        rb'{"a":"\u12"}',
        b'\x00{"a":1}',
        b'\x0b{"a":1}',
        '\u00a0{"a":1}'.encode(),
        b'{"a":\xd9\xa1}',
        nested(101),
        nested(200_000),
        b"[" * 100_000,
        # Keys and numbers do not matter in what is no JSON.
        b'{"a":1,"a":-0',
    ],
    "E_NOT_OBJECT": [b"1", b"-0", b'"a"', b"[]", b"true", b'[{"a":1}]', b"1.5"],
    "E_NUL_ESCAPE": [
        rb'{"a":"\u0000"}',
        rb'{"a":["x",{"b":"y\u0000"}]}',
        rb'{"\u0000":1}',
        rb'{"a":"\\\u0000"}',
    ],
    "E_LONE_SURROGATE": [
        rb'{"a":"\ud800"}',
        rb'{"a":"\udc00\ud800"}',
        rb'{"\uDFFF":1}',
        rb'{"a":[["\ud83dx"]]}',
    ],
    "E_REPEATED_KEY": [
        b'{"a":1,"a":1}',
        b'{"b":{"a":1,"a":2}}',
        b'{"b":[[{"a":1,"a":2}]]}',
        rb'{"a":1,"\u0061":2}',
        b'{"serial":1,"Serial":2}',
        '{"ä":1,"Ä":2}'.encode(),
        b'{"device_id":"D1","DEVICE_ID":"D2"}',
    ],
    "E_KEY_CASE": [
        b'{"Device_id":"D1"}',
        b'{"metric_Value":1}',
        b'{"a":{"TS":1}}',
        rb'{"\u0054s":1}',
    ],
    "E_NUMBER": [
        b'{"a":1.00000000000000000001}',
        b'{"a":12345678901.123456}',
        b'{"a":123456789012.5}',
        b'{"a":1e400}',
        b'{"a":1e-400}',
        b'{"a":1e-100}',
        b'{"a":-2.5e-300}',
        b'{"a":1e100}',
        b'{"a":1e15}',
        b'{"a":1e16}',
        b'{"a":1e11}',
        b'{"a":100000000000.0}',
        b'{"a":0.1e-99}',
        b'{"a":-0}',
        b'{"a":[{"b":1e999}]}',
        b'{"a":' + b"9" * 39 + b"}",
        b'{"a":-' + b"9" * 39 + b"}",
        b'{"a":' + b"9" * 10_000 + b"}",
    ],
    "E_STRING_TOO_LONG": [
        b'{"a":"' + b"x" * 65_536 + b'"}',
        b'{"' + b"x" * 65_536 + b'":1}',
        b'{"a":["' + "é".encode() * 32_768 + b'"]}',
    ],
}


@pytest.mark.parametrize("record", PASS.values(), ids=PASS.keys())
def test_passes(record: bytes) -> None:
    assert TELEMETRY.check(record) is None


@pytest.mark.parametrize(
    ("reason", "record"),
    [(reason, record) for reason, records in REJECT.items() for record in records],
    ids=lambda value: value if isinstance(value, str) else repr(value[:40]),
)
def test_reason(reason: str, record: bytes) -> None:
    assert TELEMETRY.check(record) == reason


class Unknown:
    """Knows no record, so that each is read value by value."""

    def has_no_fault(self, record: bytes) -> bool:
        return False


def by_value(topic: str) -> Gate:
    gate = Gate(TOPICS[topic], LIMIT)
    vars(gate)["_usual"] = Unknown()
    return gate


BY_VALUE = by_value("device.telemetry")
KEYS = (b'"unit"', b'"ts"', b'"sequence"')


def with_known_keys(record: bytes) -> bytes:
    """The record with keys that the gate knows in place of a, b and c."""
    for letter, key in zip((b'"a"', b'"b"', b'"c"'), KEYS, strict=True):
        record = record.replace(letter, key)
    return record


@pytest.mark.parametrize(
    "record",
    [with_known_keys(record) for records in [[*PASS.values()], *REJECT.values()] for record in records],
    ids=lambda record: repr(record[:40]),
)
def test_a_usual_record_is_judged_as_any_other(record: bytes) -> None:
    assert TELEMETRY.check(record) == BY_VALUE.check(record)


NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: to_json(number).decode()),
    st.floats(-1e12, 1e12).map(lambda number: to_json(number).decode()),
    st.from_regex(r"-?(0|[1-9][0-9]{0,21})(\.[0-9]{1,3})?(e-?[0-9]{1,3})?", fullmatch=True),
)
STRINGS = st.text().map(lambda text: to_json(text).decode()) | st.text().map(json.dumps)
JSON_KEYS = st.sampled_from(["unit", "ts", "5", "4.2", "Unit", "new"]).map(json.dumps) | STRINGS
VALUES = st.recursive(
    NUMBERS | STRINGS | st.sampled_from(["true", "false", "null"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(JSON_KEYS, inner), max_size=3).map(
            lambda items: "{" + ",".join(f"{key}:{value}" for key, value in items) + "}"
        )
    ),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.sampled_from(['"unit"', '"ts"', '"5"']), VALUES), max_size=3))
def test_any_record_is_judged_as_value_by_value(items: list[tuple[str, str]]) -> None:
    record = ("{" + ",".join(f"{key}:{value}" for key, value in items) + "}").encode()
    assert TELEMETRY.check(record) == BY_VALUE.check(record)


def test_what_simulator_and_decoder_write_is_usual() -> None:
    message = decode(
        b"MSH|^~\\&|A|B|||20250102||ORU^R01^ORU_R01|1|P|2.5\rPID|1||7^^^H&1.2^MR\rOBX|1|NM|8867-4^P^LN||61.5"
    )
    usual = {
        "device.telemetry": b'{"device_id":"D-1","ts":1767571200407,"metric_value":-10.08,"sequence":3}',
        "hl7.messages": to_json(publish_message(message)),
    }
    for topic, record in usual.items():
        assert Gate(TOPICS[topic], LIMIT)._usual.has_no_fault(record)


def test_a_record_leaves_nothing_behind_for_the_next() -> None:
    assert [TELEMETRY.check(record) for record in (b'{"a":1,"a":2}', b'{"a":1}', b'{"a":-0', b'{"a":1}')] == [
        "E_REPEATED_KEY",
        None,
        "E_NOT_JSON",
        None,
    ]


def test_known_keys_are_the_topics_own() -> None:
    record = b'{"Op":"c"}'
    assert TELEMETRY.check(record) is None
    assert Gate(TOPICS["healthcare.public.patients"], LIMIT).check(record) == "E_KEY_CASE"


def test_all_that_debezium_writes_passes() -> None:
    # The record with schema, source and transaction that the staging model's unit test reads.
    tests = yaml.safe_load((PROJECT / "models/staging/ehr/_ehr__unit_tests.yml").read_text(encoding="utf-8"))
    records = [row["payload"] for row in tests["unit_tests"][0]["given"][0]["rows"] if row["payload"]]
    assert any('"transaction"' in record and '"schema"' in record for record in records)
    gate = Gate(TOPICS["healthcare.public.prescriptions"], LIMIT)
    assert {gate.check(record.encode()) for record in records} == {None}


def test_every_json_topic_has_known_keys() -> None:
    assert all(topic.keys for topic in TOPICS.values())


def test_hostile_text_takes_linear_time() -> None:
    started = time.perf_counter()
    for record in (
        b"[" * 101 + b'"' + b'\\"' * 1_900_000,
        b'{"a":1.' + b"3" * 3_900_000 + b"}",
        b'{"a":' + b"7" * 3_900_000 + b"}",
        b'{"a":[' + b'"\\u0041",' * 400_000 + b"0]}",
    ):
        TELEMETRY.check(record)
    assert time.perf_counter() - started < 5


def test_shapes_are_bounded() -> None:
    gate = Gate(TOPICS["device.telemetry"], LIMIT)
    for number in range(11_000):
        assert gate.check(b'{"k%d":1}' % number) is None
    assert len(gate._shapes) == 10_000


def wrapped(data: bytes, **changes: object) -> bytes:
    value = {"sha256": sha256(data).hexdigest(), "bytes": base64.b64encode(data).decode()}
    return json.dumps({**value, **changes}).encode()


def test_original_passes_whatever_its_bytes_are() -> None:
    for data in (b"", b"MSH|^~\\&|\xff\x00\r", b"x" * 70_000, b"x" * LIMIT):
        assert ORIGINALS.check(wrapped(data)) is None
        assert original(wrapped(data)) == data
    assert ORIGINALS.check(b"null") is None


@pytest.mark.parametrize(
    "record",
    [
        wrapped(b"MSH|", sha256="0" * 64),
        wrapped(b"MSH|", bytes="MSH|"),
        wrapped(b"MSH|", bytes="é"),
        wrapped(b"MSH|", bytes="TV NI\nfA==*"),
        wrapped(b"MSH|", bytes=None),
        wrapped(b"MSH|", bytes=7),
        b"{}",
        b'{"bytes":""}',
    ],
)
def test_original_must_match_its_hash(record: bytes) -> None:
    assert ORIGINALS.check(record) == "E_ORIGINAL"


def test_original_is_measured_without_base64() -> None:
    assert ORIGINALS.check(wrapped(b"x" * (LIMIT + 1))) == "E_TOO_LARGE"
    assert ORIGINALS.check(b" " * (LIMIT * 2)) == "E_TOO_LARGE"


def test_tombstone_is_null_and_nothing_else() -> None:
    assert [is_tombstone(record) for record in (b"null", b" null\t\r", b'"null"', b"{}", b"")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_get_a_code_or_pass(record: bytes) -> None:
    reason = TELEMETRY.check(record)
    assert reason is None or reason in REJECT


def test_the_keys_that_the_models_read_are_known() -> None:
    # Paths stand in lists: json_string('payload', ['meta', 'version']); numbers are positions.
    models = PROJECT / "models" / "staging"
    paths = [
        path for model in models.rglob("*.sql")
        for path in re.findall(r"json_\w+\([^\[\])]*\[([^\]]*)\]", model.read_text(encoding="utf-8"))
    ]  # fmt: skip
    read = {
        key for path in paths for key in re.findall(r"'([A-Za-z_]\w*)'", re.sub(r"var\([^)]*\).*", "", path))
    }
    assert len(read) > 20
    assert read <= frozenset().union(*(topic.keys for topic in TOPICS.values()))
