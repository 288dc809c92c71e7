"""A whole input: one bad message never costs its neighbours, and nothing is lost."""

import base64
import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.hl7.decoder import Message
from loaders.hl7.publish import (
    MAX_VALUE_BYTES,
    MESSAGES,
    ORIGINALS,
    REJECTED,
    Publication,
    publish_message,
    publish_place,
)
from loaders.hl7.rejects import Reject, make_reject
from loaders.hl7.stream import Options, decode_stream, places
from loaders.kafka.outgoing import Outgoing

SOURCE = Options("feed.hl7")
GOOD = b"MSH|^~\\&|APP|FAC|||20260102||ADT^A01|%d|P|2.5\rPID|1||7\r"


def decode(data: bytes, **options: Any) -> list[Message | Reject]:
    return list(decode_stream([data], source="feed.hl7", **options))


def outcomes(data: bytes, **options: Any) -> list[str | None]:
    return [
        result.record["meta"]["control_id"] if isinstance(result, Message) else result["code"]
        for result in decode(data, **options)
    ]


BROKEN = {
    "E_DELIMITERS": b"MSH|&&&&|APP|FAC|||20260102||ADT^A01|9|P|2.5\rPID|1\r",
    "E_NO_MESSAGE_TYPE": b"MSH|^~\\&|APP|FAC|||20260102|||9|P|2.5\rPID|1\r",
    "E_CONTROL_CHARACTERS": GOOD % 9 + b"NTE|\0\r",
    "E_CHARSET": GOOD % 9 + b"NTE|\x81\xff\r",
    "E_TOO_LARGE": GOOD % 9 + b"NTE|" + b"x" * 1000 + b"\r",
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_bad_message_costs_no_neighbour(code: str) -> None:
    assert outcomes(GOOD % 1 + BROKEN[code] + GOOD % 2, max_bytes=1000) == ["1", code, "2"]


def test_a_reject_says_where_and_keeps_the_bytes() -> None:
    bad = BROKEN["E_CHARSET"]
    result = decode(b"junk\r" + GOOD % 1 + bad)[2]
    assert result == {
        "code": "E_CHARSET",
        "position": 3,
        "byte_offset": 5 + len(GOOD % 1),
        "sha256": hashlib.sha256(bad).hexdigest(),
        "msh": {
            "control_id": "9",
            "message_type": "ADT^A01",
            "version": "2.5",
            "sending_facility": "FAC",
        },
        "source": "feed.hl7",
        "codec": "2",
        "bytes": base64.b64encode(bad).decode(),
    }


def test_the_header_of_a_reject_is_cut_and_clean() -> None:
    data = b"MSH|^~\\&|APP|" + b"F" * 100 + b"|||1||A\0\x1fDT^A01||P|\xff\r"
    msh = make_reject("E_CHARSET", data, position=1, byte_offset=0, source="x")["msh"]
    assert msh == {
        "control_id": None,
        "message_type": "ADT^A01",
        "version": "\ufffd",
        "sending_facility": "F" * 64,
    }


def test_a_batch_tells_its_messages_of_its_envelope() -> None:
    data = (
        b"FHS|^~\\&|||||||||F1\rBHS|^~\\&|||||||||B1\r" + GOOD % 1 + b"BTS|1\rBHS#*:?@#########B2*x\r"
        + GOOD % 2 + b"BTS|1\r" + GOOD % 3 + b"FTS|2\r" + GOOD % 4
    )  # fmt: skip
    envelopes = []
    for result in decode(data):
        assert isinstance(result, Message)
        envelope = result.record["meta"].get("envelope", {})
        envelopes.append({name: fields["11"] for name, fields in envelope.items()})
    assert envelopes == [
        {"FHS": [{"1": "F1"}], "BHS": [{"1": "B1"}]},
        {"FHS": [{"1": "F1"}], "BHS": [{"1": "B2", "2": "x"}]},
        {"FHS": [{"1": "F1"}]},
        {},
    ]


def test_an_envelope_that_cannot_be_read_is_a_reject() -> None:
    assert outcomes(b"BHS|AAA|\r" + GOOD % 1) == ["E_DELIMITERS", "1"]


def test_utf_16_all_the_way() -> None:
    data = b"\xff\xfe" + (GOOD % 1 + GOOD % 2).decode().encode("utf-16-le")
    assert outcomes(data) == ["1", "2"]


@given(
    st.binary()
    | st.lists(st.sampled_from([*BROKEN.values(), GOOD % 1, b"\x0b", b"\x1c\r", b"x\n"])).map(b"".join)
)
def test_whatever_comes_gives_records_and_rejects_that_are_json_in_utf_8(data: bytes) -> None:
    for result in decode(data):
        value = result.record if isinstance(result, Message) else result
        text = json.dumps(value, ensure_ascii=False).encode()
        assert b"\\u0000" not in text
        if isinstance(result, Message):
            assert result.data in data
            assert hashlib.sha256(result.data).hexdigest() == result.record["meta"]["sha256"]
        else:
            kept = base64.b64decode(result["bytes"])
            assert data[result["byte_offset"] :].startswith(kept)
            assert hashlib.sha256(kept).hexdigest() == result["sha256"]


def published(message: Message) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(msgspec.json.encode(publish_message(message)))
    return value


def published_place(data: bytes, options: Options = SOURCE) -> Publication:
    (place,) = places([data], options)
    return publish_place(place, options)


def test_a_published_message_has_no_er7_and_its_bytes_stand_beside_it() -> None:
    original, message = published_place(GOOD % 1).records
    assert original == Outgoing(ORIGINALS, hashlib.sha256(GOOD % 1).hexdigest(), GOOD % 1)
    assert message.topic == MESSAGES
    value = json.loads(message.value or b"")
    assert set(value) == {"meta", "segments"}
    assert value["meta"]["sha256"] == original.key


@pytest.mark.parametrize("character", ["a", "é", "€"])
def test_a_long_value_is_published_by_reference(character: str) -> None:
    size = len(character.encode())
    fits, long = (character * (count // size) for count in (MAX_VALUE_BYTES, MAX_VALUE_BYTES + size))
    (result,) = decode(GOOD % 1 + f"OBX|1|ED|||^^^^{fits}~^^^^{long}\r".encode())
    assert isinstance(result, Message)
    message = published(result)
    assert message["segments"][2]["fields"]["5"] == [
        {"5": fits},
        {"5": {"sha256": hashlib.sha256(long.encode()).hexdigest(), "bytes": len(long.encode())}},
    ]
    assert result.record["segments"][2]["fields"]["5"][1] == {"5": long}


def test_a_value_that_grows_on_its_way_to_utf_8_is_measured_in_utf_8() -> None:
    (result,) = decode(GOOD % 1 + b"NTE|1||" + b"\x80" * 20_001 + b"\r")
    assert isinstance(result, Message)
    message = published(result)
    assert message["segments"][2]["fields"]["3"][0]["1"]["bytes"] == 60_003


def test_a_rejects_bytes_stand_in_it_or_beside_it() -> None:
    for size in (45_000, 45_001):
        data = b"x" * size
        result, records = published_place(data)
        assert not isinstance(result, Message)
        digest = hashlib.sha256(data).hexdigest()
        published = {**result, "bytes": {"sha256": digest, "bytes": size}} if size > 45_000 else result
        assert (records[-1].topic, records[-1].key) == (REJECTED, digest)
        assert json.loads(records[-1].value or b"") == published
        assert records[:-1] == ([Outgoing(ORIGINALS, digest, data)] if size > 45_000 else [])


def test_a_message_that_no_warehouse_would_take_as_json_is_rejected() -> None:
    data = GOOD % 1 + b"".join(b"NTE|%d\r" % n for n in range(100))
    result, records = published_place(data, SOURCE._replace(max_bytes=2 * len(data)))
    assert not isinstance(result, Message)
    assert result["code"] == "E_TOO_LARGE"
    assert base64.b64decode(result["bytes"]) == data
    assert [record.topic for record in records] == [REJECTED]


MSH = "MSH|^~\\&|A|{facility}|||20260102||ADT^A01|7|P|2.5\r"


@pytest.mark.parametrize(
    ("pid", "same"),
    [
        ("PID|||77^^^A^MR", True),
        ("PID|||1^^^A^SS~77^^^B^MR~78^^^A^PI", True),
        ("PID|||78^^^A^PI~77^^^A^MR", True),
        ("PID|||77", True),
        ("PID||77", True),
        ('PID||77|""^^^A^MR', True),
        ("PID|||1^^^A^AN|77", False),
        ("PID|||78^^^A^MR", False),
        ("PID|||", False),
        ("PV1||77", False),
    ],
)
def test_messages_of_one_facility_on_one_patient_have_one_key(pid: str, same: bool) -> None:
    def key(segment: str, facility: str = "FAC") -> str:
        return (
            published_place(MSH.format(facility=facility).encode() + segment.encode() + b"\r").records[-1].key
        )

    assert (key(pid) == key("PID|||77^^^X^MR")) == same
    assert key(pid) != key(pid, "OTHER")


def test_a_message_on_nobody_has_a_key_of_its_own() -> None:
    original, message = published_place(MSH.format(facility="F").encode()).records
    assert message.key == original.key
