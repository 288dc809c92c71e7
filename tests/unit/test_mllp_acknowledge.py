"""What a sender is answered: modes of HL7 v2 chapter 2.9, each version's segments, nothing of a patient."""

import re
from datetime import UTC, datetime

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.hl7.publish import publish_place
from loaders.hl7.stream import Options, places
from loaders.mllp.acknowledge import Outcome, acknowledge, read_header

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OPTIONS = Options("x", max_bytes=2_000)
MSH = "MSH|^~\\&|APP^1|FAC|WAREHOUSE|HERE|1||{type}|C-1|T|{version}|||{accept}|{application}||{charset}\r"
PID = "PID|1||ZZ4711^^^FAC^MR||Zzcanary^Testa\r"


def message(
    *,
    type: str = "ADT^A01",
    version: str = "2.5.1",
    accept: str = "",
    application: str = "",
    charset: str = "",
) -> bytes:
    header = MSH.format(type=type, version=version, accept=accept, application=application, charset=charset)
    return (header + PID).encode()


def answer(data: bytes, outcome: Outcome | None = None) -> list[str] | None:
    """The segments of the answer to a message, decoded or rejected as it may be, or not stored."""
    (place,) = places([b"\x0b" + data + b"\x1c\r"], OPTIONS)
    publication = publish_place(place, OPTIONS)
    decoded: Outcome = "rejected" if "code" in publication.result else "stored"
    header = read_header(place, publication)
    if header is None:
        return None
    ack = acknowledge(header, outcome or decoded, AT)
    return None if ack is None else ack.decode(header.charset).removesuffix("\r").split("\r")


def code(data: bytes, outcome: Outcome | None = None) -> str | None:
    segments = answer(data, outcome)
    return segments[1].split("|")[1] if segments else None


def test_the_answer_to_a_message() -> None:
    msh, msa = answer(message()) or []
    control_id = msh.split("|")[9]
    assert re.fullmatch("[0-9a-f]{20}", control_id)
    assert msh == (
        f"MSH|^~\\&|WAREHOUSE|HERE|APP^1|FAC|20260102030405+0000||ACK^A01^ACK|{control_id}|T|2.5.1"
    )
    assert msa == "MSA|AA|C-1"


def test_no_two_answers_have_one_control_id() -> None:
    ids = {(answer(message()) or [""])[0].split("|")[9] for _ in range(100)}
    assert len(ids) == 100


# MSH-15, MSH-16; what is answered when the message is stored, rejected, not stored.
@pytest.mark.parametrize(
    ("accept", "application", "answers"),
    [
        ("", "", ("AA", "AR", "AE")),
        ('""', '""', ("AA", "AR", "AE")),
        ("AL", "NE", ("CA", "CR", "CE")),
        ("AL", "", ("CA", "CR", "CE")),
        ("al", "", ("CA", "CR", "CE")),
        ("ER", "NE", (None, "CR", "CE")),
        ("SU", "NE", ("CA", None, None)),
        ("NE", "NE", (None, None, None)),
        ("NE", "", (None, None, None)),
        ("", "NE", (None, None, None)),
        ("NE", "AL", ("AA", "AR", "AE")),
        ("", "AL", ("AA", "AR", "AE")),
        ("NE", "ER", (None, "AR", "AE")),
        ("NE", "SU", ("AA", None, None)),
        ("AL", "AL", ("CA", "CR", "CE")),
        ("ER", "AL", ("AA", "CR", "CE")),
        ("SU", "ER", ("CA", "AR", "AE")),
        ("Y", "", ("CA", "CR", "CE")),
    ],
)
def test_the_mode_is_the_senders(accept: str, application: str, answers: tuple[str | None, ...]) -> None:
    data = message(accept=accept, application=application)
    outcomes: tuple[Outcome, ...] = ("stored", "rejected", "not stored")
    assert tuple(code(data, outcome) for outcome in outcomes) == answers


@pytest.mark.parametrize(
    ("version", "message_type"),
    [
        ("2.1", "ACK"),
        ("2.2", "ACK^A01"),
        ("2.3", "ACK^A01"),
        ("2.3.1", "ACK^A01^ACK"),
        ("2.5.1^USA", "ACK^A01^ACK"),
        ("2.9", "ACK^A01^ACK"),
        ("", "ACK"),
        ("new", "ACK"),
    ],
)
def test_the_answer_is_in_the_senders_version(version: str, message_type: str) -> None:
    msh, _ = answer(message(version=version)) or []
    fields = [*msh.split("|"), ""]
    assert (fields[8], fields[11]) == (message_type, version)


def test_an_event_that_is_absent_or_null_is_not_answered_to() -> None:
    for sent in ("ADT", "ADT^", 'ADT^""'):
        assert (answer(message(type=sent)) or [""])[0].split("|")[8] == "ACK"


def test_an_acknowledgment_is_answered_only_where_it_asks_for_that() -> None:
    assert answer(message(type="ACK^A01")) is None
    assert answer(message(type="MCF")) is None
    assert code(message(type="ACK^A01", accept="AL")) == "CA"


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ("2.1", ["MSA|AR|C-1|E_NO_MESSAGE_TYPE"]),
        ("2.4", ["MSA|AR|C-1|E_NO_MESSAGE_TYPE|||101^Required field missing^HL70357"]),
        ("2.5", ["MSA|AR|C-1", "ERR|||101^Required field missing^HL70357|E|E_NO_MESSAGE_TYPE"]),
        ("2.9", ["MSA|AR|C-1", "ERR|||101^Required field missing^HL70357|E|E_NO_MESSAGE_TYPE"]),
    ],
)
def test_what_is_wrong_is_told_as_the_version_has_it(version: str, error: list[str]) -> None:
    assert (answer(message(type="", version=version)) or [])[1:] == error


def test_what_is_not_stored_has_a_code_too() -> None:
    assert (answer(message(), "not stored") or [])[1:] == [
        "MSA|AE|C-1",
        "ERR|||207^Application internal error^HL70357|E|E_NOT_STORED",
    ]


@pytest.mark.parametrize(
    ("broken", "error_code"),
    [
        (message() + b"NTE|1||\x00\r", "E_CONTROL_CHARACTERS"),
        (message() + b"NTE|1||\x81\xff\r", "E_CHARSET"),
        (message() + b"NTE|1||" + b"x" * 3_000 + b"\r", "E_TOO_LARGE"),
        (message(type=""), "E_NO_MESSAGE_TYPE"),
        (message().replace(b"^~\\&", b"^^^^", 1), "E_DELIMITERS"),
        (message().replace(b"MSH|^~\\&", b"MSH|", 1), "E_DELIMITERS"),
    ],
)
def test_what_cannot_be_decoded_is_rejected_with_its_code(broken: bytes, error_code: str) -> None:
    segments = answer(broken)
    assert segments
    assert segments[0].startswith("MSH|^~\\&|")
    if broken.startswith(b"MSH|^"):
        assert segments[1] == "MSA|AR|C-1"
        assert segments[2].endswith(f"|E|{error_code}")


@pytest.mark.parametrize(
    "nothing",
    [b"", b"hello\r", PID.encode(), b"MSH", b"MSHAPP", b"MSH^^~|\\|", b"x" * 9_000 + b"\r" + message()],
)
def test_what_has_no_header_to_answer_to_is_not_answered(nothing: bytes) -> None:
    for place in places([b"\x0b" + nothing + b"\x1c\r"], OPTIONS._replace(max_bytes=1_000)):
        if not place.data.startswith(b"MSH|"):
            assert read_header(place, publish_place(place, OPTIONS)) is None


def test_a_frame_that_was_cut_is_not_answered() -> None:
    (place,) = places([b"\x0b" + message()], OPTIONS)
    assert place.code == "E_FRAME"
    assert read_header(place, publish_place(place, OPTIONS)) is None


@pytest.mark.parametrize(
    ("charset", "codec"), [("8859/1", "iso-8859-1"), ("UNICODE UTF-8", "utf-8"), ("", "cp1252")]
)
def test_the_answer_is_in_the_senders_character_set(charset: str, codec: str) -> None:
    data = message(charset=charset).decode().replace("FAC|", "Süd|", 1).encode(codec)
    (place,) = places([b"\x0b" + data + b"\x1c\r"], OPTIONS)
    header = read_header(place, publish_place(place, OPTIONS))
    assert header
    ack = acknowledge(header, "stored", AT)
    assert ack and "Süd".encode(codec) in ack
    fields = ack.split(b"\r")[0].split(b"|")
    assert (fields[17:18] == [charset.encode()]) == bool(charset)


def test_the_answer_is_in_the_senders_delimiters() -> None:
    data = message().decode().translate(str.maketrans("|^~\\&", "#*@!%")).encode()
    msh, msa = answer(data) or []
    assert msh.startswith("MSH#*@!%#WAREHOUSE#HERE#APP*1#FAC#20260102030405+0000##ACK*A01*ACK#")
    assert msa == "MSA#AA#C-1"


def test_text_of_ours_never_reads_as_a_delimiter() -> None:
    data = message(type="").decode().translate(str.maketrans("|^~\\&", "+_~\\&")).encode()
    msh, msa, err = answer(data) or []
    assert msh.split("+")[6] == "20260102030405\\F\\0000"
    assert msa == "MSA+AR+C-1"
    assert err == "ERR+++101_Required field missing_HL70357+E+E\\S\\NO\\S\\MESSAGE\\S\\TYPE"
    data = message(type="").decode().translate(str.maketrans("|^", "+_", "~\\&")).encode()
    assert (answer(data) or [""])[-1].endswith("+ENOMESSAGETYPE")


def test_nothing_of_the_patient_is_in_an_answer() -> None:
    for data in (message(), message(type=""), message() + b"NTE|\x00Zzcanary\r"):
        said = "".join(answer(data) or [])
        assert "canary" not in said
        assert "4711" not in said


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x0b\x1c"), max_size=12),
    st.sampled_from("|^~\\&#*@!%+_:.-"),
    st.integers(1, 20),
    st.sampled_from(["stored", "rejected", "not stored"]),
)
def test_whatever_a_header_holds_the_answer_is_a_message_of_one_line_each(
    text: str, separator: str, number: int, outcome: Outcome
) -> None:
    fields = message().decode().split("\r")[0].split("|")
    fields[number % len(fields)] = text
    data = (separator.join(fields) + "\r").encode()
    for place in places([b"\x0b" + data + b"\x1c\r"], OPTIONS):
        header = read_header(place, publish_place(place, OPTIONS))
        ack = acknowledge(header, outcome, AT) if header else None
        if ack:
            assert not {0x0B, 0x1C, 0x00} & set(ack)
            names = [line[:3] for line in ack.split(b"\r")]
            assert names in ([b"MSH", b"MSA", b""], [b"MSH", b"MSA", b"ERR", b""])


def test_another_library_reads_the_answer() -> None:
    parsed = hl7.parse("\r".join(answer(message(type="")) or []) + "\r")
    assert str(parsed.segment("MSA")[1]) == "AR"
    assert str(parsed.segment("MSA")[2]) == "C-1"
    assert str(parsed.segment("ERR")[3][0][0]) == "101"
