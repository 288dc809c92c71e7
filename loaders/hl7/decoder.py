"""One HL7 v2 message in, one record out: the shape of every version, message and sender.

Source: HL7 v2 chapter 2 (message construction rules). Nothing here knows what a field means, MSH apart.
"""

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NotRequired, TypedDict

from loaders.hl7.charset import DEFAULT_FALLBACK, UNFIT, Text, read_text
from loaders.hl7.delimiters import Delimiters, make_unescape, read_delimiters
from loaders.hl7.rejects import CODEC, RejectError

Repetition = dict[str, str]
"""Component ("4") or component.subcomponent ("4.2") → value; the first subcomponent is under "4"."""
Fields = dict[str, list[Repetition]]


class Segment(TypedDict):
    """A segment: its number from 1, and the numbers of the segments it hangs under."""

    n: int
    id: str
    parent: NotRequired[dict[str, int]]
    fields: Fields


class Meta(TypedDict):
    """What tells a message from others; values of MSH as sent, None where absent."""

    control_id: str | None
    message_type: str | None
    trigger_event: str | None
    structure: str | None
    version: str | None
    sending_application: str | None
    sending_facility: str | None
    message_at: str | None
    sha256: str
    charset: str
    codec: str
    warnings: list[str]
    envelope: NotRequired[dict[str, Fields]]


class Record(TypedDict):
    """A decoded message; ``er7`` is its text as sent."""

    meta: Meta
    segments: list[Segment]
    er7: str


W_CHARSET = "W_CHARSET"
"""The character set used is not the one that MSH-18 declares."""
W_DELIMITERS = "W_DELIMITERS"
"""MSH-2 has fewer than four characters, or its escape character twice."""
W_CONTINUATION = "W_CONTINUATION"
"""Lines that are no segments were joined to the field before them."""
W_FRAMING = "W_FRAMING"
"""MLLP characters (or a DOS end of file) stand in what is no MLLP frame."""
W_NO_CONTROL_ID = "W_NO_CONTROL_ID"
"""MSH-10 is empty."""
W_NO_VERSION = "W_NO_VERSION"
"""MSH-12 is empty."""

# What is above what, from far to near. A segment ends those of its own rank and below; everything else
# hangs under what is open, notes and participations under an OBX too.
_RANKS = {"PID": 1, "ORC": 2, "OBR": 3, "SPM": 4, "OBX": 5}
_UNDER_OBX = {"NTE", "PRT"}

_FRAMING = "\x0b\x1c\x1a"
_BLANK = " \t\r\n" + _FRAMING
_MSH_LINE = re.compile(rb"[\s\xef\xbb\xbf]*MSH(.)([^\r\n]*)")


def decode(
    data: bytes,
    *,
    encoding: str | None = None,
    fallback: str = DEFAULT_FALLBACK,
    max_bytes: int | None = None,
) -> Record:
    """Decode one message.

    Args:
        data: the message, without MLLP framing.
        encoding: the character set, where the input around the message has told it.
        fallback: the set for bytes that are neither as MSH-18 declares nor UTF-8.
        max_bytes: the longest message to decode.

    Raises:
        RejectError: the message cannot be decoded; it carries the code.
    """
    if max_bytes is not None and len(data) > max_bytes:
        raise RejectError("E_TOO_LARGE")
    if not data.strip(_BLANK.encode()):
        raise RejectError("E_EMPTY")
    text, charset, is_as_declared = _read(data, encoding, fallback)
    body, is_framed = _strip_framing(text)
    if not body.startswith("MSH"):
        raise RejectError("E_NO_MSH")
    delimiters = read_delimiters(body)
    if UNFIT.search(body):
        raise RejectError("E_CONTROL_CHARACTERS")
    lines, is_continued = _join_lines(body, delimiters.field)
    segments = _segments(lines, delimiters, make_unescape(delimiters, charset))
    msh = segments[0]["fields"]
    message_type, trigger_event = _value(msh, "9"), _value(msh, "9", "2")
    if message_type is None or not message_type.strip(' "'):
        raise RejectError("E_NO_MESSAGE_TYPE")
    control_id, version = _value(msh, "10"), _value(msh, "12")
    warnings = {
        W_CHARSET: not is_as_declared,
        W_DELIMITERS: not delimiters.is_regular,
        W_CONTINUATION: is_continued,
        W_FRAMING: is_framed,
        W_NO_CONTROL_ID: control_id is None,
        W_NO_VERSION: version is None,
    }
    derived = f"{message_type}_{trigger_event}" if trigger_event else None
    meta = Meta(
        control_id=control_id,
        message_type=message_type,
        trigger_event=trigger_event,
        structure=_value(msh, "9", "3") or derived,
        version=version,
        sending_application=_value(msh, "3") or _value(msh, "3", "2"),
        sending_facility=_value(msh, "4") or _value(msh, "4", "2"),
        message_at=_value(msh, "7"),
        sha256=hashlib.sha256(data).hexdigest(),
        charset=charset,
        codec=CODEC,
        warnings=[name for name, applies in warnings.items() if applies],
    )
    return Record(meta=meta, segments=segments, er7=body if is_framed else text)


def decode_envelope(data: bytes, *, encoding: str | None = None, fallback: str = DEFAULT_FALLBACK) -> Fields:
    """Decode an FHS or BHS line; for what a batch's messages are told of it.

    Raises:
        RejectError: E_DELIMITERS, E_CHARSET or E_CONTROL_CHARACTERS.
    """
    text, charset, _ = _read(data, encoding, fallback)
    body, _ = _strip_framing(text)
    delimiters = read_delimiters(body)
    if UNFIT.search(body):
        raise RejectError("E_CONTROL_CHARACTERS")
    return _header_fields(body.split(delimiters.field), delimiters, make_unescape(delimiters, charset))


def _read(data: bytes, encoding: str | None, fallback: str) -> Text:
    if encoding:
        return Text(data.decode(encoding).removeprefix("\ufeff"), encoding, True)
    declared: list[str] = []
    msh = _MSH_LINE.match(data)
    if msh:
        fields = msh[2].split(msh[1])  # from MSH-2
        repetition = fields[0][1:2] or b"~"
        declared = [name.decode("latin-1") for name in b"".join(fields[16:17]).split(repetition)]
    return read_text(data, declared, fallback)


def _strip_framing(text: str) -> tuple[str, bool]:
    """Drop blank lines at both ends; tell whether MLLP characters were among them."""
    body = text.strip(_BLANK)
    start = text.find(body)
    end = text[start + len(body) :]
    # Blanks before the line end belong to the last value.
    return body + end[: len(end) - len(end.lstrip(" \t"))], any(c in text[:start] + end for c in _FRAMING)


def _join_lines(body: str, separator: str) -> tuple[list[str], bool]:
    """Cut into segments; a line that is no segment continues the one before it, joined by a line feed.

    Blank lines are dropped, except within such a text. Returns the segments and whether lines were joined.
    """
    is_segment = _segment_start(separator)
    segments: list[str] = []
    blank = ""
    is_continued = False
    for line in body.replace("\r\n", "\r").replace("\n", "\r").split("\r"):
        if is_segment(line):
            segments.append(line)
            blank = ""
        elif not line.strip(_BLANK):
            blank += "\n" + line
        else:
            text = blank + "\n" + line
            while len(segments[-1]) == 3:  # a line such as "NKA": what follows shows that it was text too
                text = "\n" + segments.pop() + text
            segments[-1] += text
            blank = ""
            is_continued = True
    return segments, is_continued


@lru_cache(maxsize=64)
def _segment_start(separator: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(rf"[A-Z][A-Z0-9]{{2}}(?:{re.escape(separator)}|\Z)").match


def _segments(lines: list[str], delimiters: Delimiters, unescape: Callable[[str], str]) -> list[Segment]:
    """Decode the segments and say what each hangs under, by position alone."""
    segments: list[Segment] = []
    opened: list[tuple[str, int]] = []  # from near to far
    under_obx: dict[str, int] = {}
    under_order: dict[str, int] = {}
    for n, line in enumerate(lines, 1):
        parts = line.split(delimiters.field)
        name = parts[0]
        rank = _RANKS.get(name)
        if rank:
            opened = [(above, at) for above, at in opened if _RANKS[above] < rank]
            parent = dict(opened)
            opened.insert(0, (name, n))
            under_obx = dict(opened)
            under_order = {above: at for above, at in opened if above != "OBX"}
        else:
            parent = under_obx if name in _UNDER_OBX else under_order
        if n == 1:
            fields = _header_fields(parts, delimiters, unescape)
        else:
            fields = _fields(parts[1:], 1, delimiters, unescape)
        if parent:
            segments.append({"n": n, "id": name, "parent": parent, "fields": fields})
        else:
            segments.append({"n": n, "id": name, "fields": fields})
    return segments


def _header_fields(parts: list[str], delimiters: Delimiters, unescape: Callable[[str], str]) -> Fields:
    """Decode MSH, FHS or BHS, whose first two fields are the delimiters themselves."""
    fields: Fields = {"1": [{"1": delimiters.field}], "2": [{"1": parts[1]}]}
    return fields | _fields(parts[2:], 3, delimiters, unescape)


def _fields(texts: list[str], first: int, delimiters: Delimiters, unescape: Callable[[str], str]) -> Fields:
    """Decode fields by number; what is absent, or holds nothing but delimiters, has no key."""
    _, component_mark, repetition_mark, escape, subcomponent_mark, *_ = delimiters
    is_marked = _marks(delimiters)
    fields: Fields = {}
    for number, text in enumerate(texts, first):
        if not text:
            continue
        if not is_marked(text):
            fields[str(number)] = [{"1": text}]
            continue
        repetitions: list[Repetition] = []
        for repetition in text.split(repetition_mark) if repetition_mark else [text]:
            values: Repetition = {}
            for c, component in enumerate(repetition.split(component_mark), 1):
                if not component:
                    continue
                if subcomponent_mark and subcomponent_mark in component:
                    for s, value in enumerate(component.split(subcomponent_mark), 1):
                        if value:
                            values[f"{c}.{s}" if s > 1 else str(c)] = unescape(value)
                else:
                    values[str(c)] = unescape(component) if escape and escape in component else component
            repetitions.append(values)
        while repetitions and not repetitions[-1]:
            repetitions.pop()
        if repetitions:
            fields[str(number)] = repetitions
    return fields


@lru_cache(maxsize=64)
def _marks(delimiters: Delimiters) -> Callable[[str], re.Match[str] | None]:
    """Make the search for anything in a field that has to be split or unescaped."""
    return re.compile(f"[{re.escape(''.join(delimiters[1:5]))}]").search


def _value(fields: Fields, number: str, component: str = "1") -> str | None:
    return fields[number][0].get(component) if number in fields else None
