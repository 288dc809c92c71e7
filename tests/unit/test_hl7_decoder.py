"""One message in, one record out."""

import hashlib
from typing import Any

import pytest

from loaders.hl7 import decoder
from loaders.hl7.decoder import Record
from loaders.hl7.rejects import RejectError
from loaders.hl7.segments import Segment

HEADER = "MSH|^~\\&|APP|FAC|CDW||20260102030405||ADT^A01|ID1|P|2.5"


def decode(data: bytes, **options: Any) -> Record:
    return decoder.decode(data, **options).record


def record(*lines: str, header: str = HEADER) -> Record:
    return decode("\r".join((header, *lines)).encode())


def segment(line: str) -> Segment:
    return record(line)["segments"][1]


def meta(header: str) -> dict[str, Any]:
    return {**record(header=header)["meta"]}


def rejected(data: bytes, **options: Any) -> str:
    with pytest.raises(RejectError) as error:
        decode(data, **options)
    return error.value.code


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("a", [{"1": "a"}]),
        ("a^b", [{"1": "a", "2": "b"}]),
        ("^^c", [{"3": "c"}]),
        ("a~b", [{"1": "a"}, {"1": "b"}]),
        ("a~~b", [{"1": "a"}, {}, {"1": "b"}]),
        ("~b", [{}, {"1": "b"}]),
        ("a~~", [{"1": "a"}]),
        ("a&b&c", [{"1": "a", "1.2": "b", "1.3": "c"}]),
        ("x^a&b", [{"1": "x", "2": "a", "2.2": "b"}]),
        ("&b", [{"1.2": "b"}]),
        ("a^b~c&d^e", [{"1": "a", "2": "b"}, {"1": "c", "1.2": "d", "2": "e"}]),
        ('""', [{"1": '""'}]),
        ('""^b', [{"1": '""', "2": "b"}]),
        (" a ", [{"1": " a "}]),
        ("007.50", [{"1": "007.50"}]),
        ("a\\S\\b^c\\T\\d", [{"1": "a^b", "2": "c&d"}]),
        ("a\\R\\b", [{"1": "a~b"}]),
        ("\\H\\a\\N\\", [{"1": "\\H\\a\\N\\"}]),
        ("tab\there", [{"1": "tab\there"}]),
        ("page\x0cone\x0btwo", [{"1": "page\x0cone\x0btwo"}]),
        ("\u2028\x85", [{"1": "\u2028\x85"}]),
        ("^" * 40 + "z", [{"41": "z"}]),
        # nothing but delimiters is absent
        ("", None),
        ("^^", None),
        ("~", None),
        ("&^&~^", None),
    ],
)
def test_a_field_is_a_list_of_repetitions(field: str, expected: list[dict[str, str]] | None) -> None:
    assert segment(f"ZZ1||{field}|end")["fields"].get("2") == expected
    assert segment(f"ZZ1||{field}|end")["fields"]["3"] == [{"1": "end"}]


def test_header_fields_count_the_separator_as_the_first() -> None:
    fields = record()["segments"][0]["fields"]
    assert fields["1"] == [{"1": "|"}]
    assert fields["2"] == [{"1": "^~\\&"}]
    assert fields["9"] == [{"1": "ADT", "2": "A01"}]
    assert "6" not in fields


def test_other_delimiters() -> None:
    decoded = decode(b"MSH#*:?@#APP#FAC###1##ADT*A01#1#P#2.5\rPID#a|b*c^d@e:f~g?F?")
    assert decoded["segments"][1]["fields"]["1"] == [{"1": "a|b", "2": "c^d", "2.2": "e"}, {"1": "f~g#"}]


def test_without_a_repetition_separator_nothing_repeats() -> None:
    assert record("PID|a~b", header="MSH|^\\&|A|F|||1||ADT^A01|1|P|2")["segments"][1]["fields"]["1"] == [
        {"1": "a~b"}
    ]


def test_segments_are_numbered_and_keep_their_order() -> None:
    lines = [(s["n"], s["id"]) for s in record("ZZ9|1", "", "PID|1", "ZZ9|2", "PV1")["segments"]]
    assert lines == [(1, "MSH"), (2, "ZZ9"), (3, "PID"), (4, "ZZ9"), (5, "PV1")]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_line_ends_make_no_difference(end: str) -> None:
    lines = [HEADER, "PID|1", "", "OBX|1", ""]
    decoded = decode(end.join(lines).encode())
    assert [s["id"] for s in decoded["segments"]] == ["MSH", "PID", "OBX"]
    assert decoded["meta"]["warnings"] == []


def test_mixed_line_ends() -> None:
    assert [s["id"] for s in decode(f"{HEADER}\rPID|1\nPV1|1\r\nOBX|1".encode())["segments"]] == [
        "MSH",
        "PID",
        "PV1",
        "OBX",
    ]


def test_a_line_that_is_no_segment_continues_the_field_before_it() -> None:
    decoded = record("OBX|1|TX|||one", "two", "", " ", "three|four||F", "NTE|1")
    assert decoded["segments"][1]["fields"]["5"] == [{"1": "one\ntwo\n\n \nthree"}]
    assert decoded["segments"][1]["fields"]["6"] == [{"1": "four"}]
    assert [s["id"] for s in decoded["segments"]] == ["MSH", "OBX", "NTE"]
    assert decoded["meta"]["warnings"] == ["W_CONTINUATION"]


def test_a_line_of_three_capitals_is_text_where_text_goes_on() -> None:
    decoded = record("OBX|1|TX|||one", "NKA", "CHF", "four", "PV1")
    assert decoded["segments"][1]["fields"]["5"] == [{"1": "one\nNKA\nCHF\nfour"}]
    assert [s["id"] for s in decoded["segments"]] == ["MSH", "OBX", "PV1"]


def parents(*lines: str) -> list[dict[str, int] | None]:
    return [s.get("parent") for s in record(*lines)["segments"]]


def test_parents_are_what_is_nearest_above() -> None:
    assert parents(
        "PID", "PV1", "ORC", "OBR", "OBX", "NTE", "OBX", "OBR", "NTE", "OBX", "ORC", "OBR", "OBX"
    ) == [
        None,
        None,
        {"PID": 2},
        {"PID": 2},
        {"ORC": 4, "PID": 2},
        {"OBR": 5, "ORC": 4, "PID": 2},
        {"OBX": 6, "OBR": 5, "ORC": 4, "PID": 2},
        {"OBR": 5, "ORC": 4, "PID": 2},
        {"ORC": 4, "PID": 2},
        {"OBR": 9, "ORC": 4, "PID": 2},
        {"OBR": 9, "ORC": 4, "PID": 2},
        {"PID": 2},
        {"ORC": 12, "PID": 2},
        {"OBR": 13, "ORC": 12, "PID": 2},
    ]


def test_a_z_segment_cannot_cut_an_observation_from_its_order() -> None:
    assert parents("PID", "OBR", "ZZ1", "OBX")[3:] == [{"OBR": 3, "PID": 2}, {"OBR": 3, "PID": 2}]


def test_a_new_patient_ends_what_hung_under_the_last_one() -> None:
    assert parents("PID", "ORC", "OBR", "OBX", "PID", "PV1", "OBX")[5:] == [None, {"PID": 6}, {"PID": 6}]


def test_observations_on_a_specimen_say_so_until_the_next_order() -> None:
    found = parents("PID", "OBR", "OBX", "SPM", "OBX", "OBR", "OBX")
    assert found[4:] == [
        {"OBR": 3, "PID": 2},
        {"SPM": 5, "OBR": 3, "PID": 2},
        {"PID": 2},
        {"OBR": 7, "PID": 2},
    ]


def test_each_merge_is_under_its_patient() -> None:
    assert parents("PID", "MRG", "PID", "MRG")[2::2] == [{"PID": 2}, {"PID": 4}]


def test_meta() -> None:
    data = f"{HEADER}\rPID|1".encode()
    assert decode(data)["meta"] == {
        "control_id": "ID1",
        "message_type": "ADT",
        "trigger_event": "A01",
        "structure": "ADT_A01",
        "version": "2.5",
        "dictionary": "2.5",
        "sending_application": "APP",
        "sending_facility": "FAC",
        "message_at": "20260102030405",
        "sha256": hashlib.sha256(data).hexdigest(),
        "charset": "utf-8",
        "codec": "2",
        "warnings": [],
    }


def test_meta_of_a_bare_header() -> None:
    found = meta("MSH|^~\\&|||||||ACK")
    assert found["message_type"] == "ACK"
    names = "control_id trigger_event version sending_application sending_facility message_at"
    assert [found[name] for name in names.split()] == [None] * 6
    assert found["warnings"] == ["W_NO_CONTROL_ID", "W_NO_VERSION"]


def test_the_structure_is_msh_9_3_before_what_follows_from_the_trigger() -> None:
    assert meta(HEADER.replace("ADT^A01", "ADT^A04^ADT_A01"))["structure"] == "ADT_A01"
    assert meta(HEADER.replace("ADT^A01", "ADT^A04"))["structure"] == "ADT_A01"
    assert meta(HEADER.replace("ADT^A01", 'ADT^A04^""'))["structure"] == "ADT_A01"
    assert meta(HEADER.replace("ADT^A01", "ADT^" + "A" * 1_000))["structure"] is None


def test_a_sender_known_by_its_universal_id_alone_is_known_by_it() -> None:
    found = meta(HEADER.replace("APP|FAC", "^1.2.3^ISO|^4.5.6^ISO"))
    assert (found["sending_application"], found["sending_facility"]) == ("1.2.3", "4.5.6")


def test_the_declared_character_set_is_used_and_its_name_kept() -> None:
    header = HEADER + "||||||8859/1"
    found = decode(f"{header}\rPID|Zürich".encode("latin-1"))
    assert found["segments"][1]["fields"]["1"] == [{"1": "Zürich"}]
    assert (found["meta"]["charset"], found["meta"]["warnings"]) == ("iso-8859-1", [])


def test_all_repetitions_of_msh_18_count() -> None:
    header = HEADER + "||||||~8859/2"
    assert decode(f"{header}\rPID|Łódź".encode("iso-8859-2"))["segments"][1]["fields"]["1"] == [{"1": "Łódź"}]


def test_the_repetitions_of_msh_18_are_cut_at_the_messages_own_delimiter() -> None:
    data = "MSH#*:?@#A#F###1##ADT*A01#1#P#2.5######ASCII:8859/2\rPID#Łódź".encode("iso-8859-2")
    assert decode(data)["segments"][1]["fields"]["1"] == [{"1": "Łódź"}]


@pytest.mark.parametrize("data", [f"{HEADER}\rPID|é".encode("latin-1"), b"\xef\xbb\xbf" + HEADER.encode()])
def test_sha256_is_that_of_the_bytes_as_they_came(data: bytes) -> None:
    assert decode(data)["meta"]["sha256"] == hashlib.sha256(data).hexdigest()


def test_another_character_set_than_declared_is_a_warning() -> None:
    found = decode((HEADER + "||||||ASCII\rPID|Zürich").encode())["meta"]
    assert (found["charset"], found["warnings"]) == ("utf-8", ["W_CHARSET"])


def test_utf_16() -> None:
    found = decode(("\ufeff" + HEADER + "\rPID|Zürich").encode("utf-16-le"), encoding="utf-16-le")
    assert found["meta"]["charset"] == "utf-16-le"
    assert found["segments"][1]["fields"]["1"] == [{"1": "Zürich"}]


@pytest.mark.parametrize(
    ("msh_2", "warnings"),
    [("^~\\&", []), ("^~\\&#", []), ("^~&", ["W_DELIMITERS"]), ("^~\\\\&", ["W_DELIMITERS"])],
)
def test_an_unusual_msh_2_is_a_warning(msh_2: str, warnings: list[str]) -> None:
    assert meta(HEADER.replace("^~\\&", msh_2))["warnings"] == warnings


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "\r\x1c\r"), ("\n\x0b", "\r\x1c\r"), ("", "\r\x0b\r \n"), ("", "\x1c"), ("", "\r\n\x1a")],
)
def test_framing_in_what_is_no_frame_is_dropped_with_a_warning(before: str, after: str) -> None:
    found = decode(f"{before}{HEADER}\rPID|1| x {after}".encode())
    assert found["meta"]["warnings"] == ["W_FRAMING"]
    assert [s["id"] for s in found["segments"]] == ["MSH", "PID"]
    assert found["segments"][1]["fields"]["2"] == [{"1": " x "}]


def test_er7_is_the_text_as_sent() -> None:
    text = f"{HEADER}\r\nPID|1|\\F\\^^\r\n\r\n"
    assert decode(text.encode())["er7"] == text
    assert decode(b"\xef\xbb\xbf" + text.encode())["er7"] == text


@pytest.mark.parametrize("data", [b"", b"\r\n \t", b"\x0b\x1c"])
def test_nothing_is_empty(data: bytes) -> None:
    assert rejected(data) == "E_EMPTY"


@pytest.mark.parametrize("data", [b"PID|1", b"msh|^~\\&|", b"xMSH|^~\\&|", b"hello"])
def test_without_a_header(data: bytes) -> None:
    assert rejected(data) == "E_NO_MSH"


@pytest.mark.parametrize("msh_2", ["", "&&&&", "ABCD", "^~\\&#%"])
def test_without_delimiters(msh_2: str) -> None:
    assert rejected(HEADER.replace("^~\\&", msh_2).encode()) == "E_DELIMITERS"


@pytest.mark.parametrize("msh_9", ["", "^A01", '""', " "])
def test_without_a_message_type(msh_9: str) -> None:
    assert rejected(HEADER.replace("ADT^A01", msh_9).encode()) == "E_NO_MESSAGE_TYPE"
    assert rejected(b"MSH|^~\\&|APP") == "E_NO_MESSAGE_TYPE"


@pytest.mark.parametrize("number", [*range(0x09), *range(0x0E, 0x20)])
def test_control_characters(number: int) -> None:
    assert rejected(f"{HEADER}\rPID|a{chr(number)}b".encode()) == "E_CONTROL_CHARACTERS"


def test_without_a_character_set() -> None:
    assert rejected(HEADER.encode() + b"\rPID|\x81\xff") == "E_CHARSET"


def test_too_large() -> None:
    data = f"{HEADER}\rPID|1".encode()
    decode(data, max_bytes=len(data))
    assert rejected(data, max_bytes=len(data) - 1) == "E_TOO_LARGE"
