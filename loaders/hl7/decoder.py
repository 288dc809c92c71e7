"""One HL7 v2 message in, one record out: the shape of every version, message and sender.

Source: HL7 v2 chapter 2 (message construction rules). Nothing here knows what a field means, MSH apart.
"""

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, NotRequired, TypedDict

import msgspec

from loaders.hl7.charset import DEFAULT_FALLBACK, Text, read_text
from loaders.hl7.delimiters import read_delimiters
from loaders.hl7.dictionary import dictionary_version, find_structure
from loaders.hl7.rejects import CODEC, RejectError
from loaders.hl7.segments import Fields, Reader, Segment


class Meta(TypedDict):
    """What tells a message from others; values of MSH as sent, None where absent."""

    control_id: str | None
    message_type: str
    trigger_event: str | None
    structure: str | None
    """MSH-9.3, else what the dictionary says of the trigger event; None: unknown, no groups."""
    version: str | None
    dictionary: str
    """The HL7 version whose dictionary names the positions: ``version``, or the nearest lower there is."""
    sending_application: str | None
    sending_facility: str | None
    message_at: str | None
    sha256: str
    charset: str
    codec: str
    warnings: list[str]
    envelope: NotRequired[dict[str, Fields]]


class Record(TypedDict):
    """A decoded message as one value; ``er7`` is its text as sent."""

    meta: Meta
    segments: list[Segment]
    er7: str


class Message(NamedTuple):
    """A decoded message, ready to be written: what is most of it is JSON already."""

    meta: Meta
    segments: str
    """The JSON of ``list[Segment]``."""
    er7: str
    data: bytes
    """The bytes as they came, without MLLP framing."""

    @property
    def record(self) -> Record:
        """The message as one value."""
        return Record(meta=self.meta, segments=msgspec.json.decode(self.segments), er7=self.er7)


W_CHARSET = "W_CHARSET"
"""The character set used is not the one that MSH-18 declares."""
W_DELIMITERS = "W_DELIMITERS"
"""MSH-2 has fewer than four characters, or its escape character twice."""
W_CONTINUATION = "W_CONTINUATION"
"""Lines were joined to the segment before them: text that is no segment, or ADD segments."""
W_FRAGMENT = "W_FRAGMENT"
"""The message is a part of one that was sent in parts: its first or last segment may be cut."""
W_FRAMING = "W_FRAMING"
"""MLLP characters (or a DOS end of file) stand in what is no MLLP frame."""
W_NO_CONTROL_ID = "W_NO_CONTROL_ID"
"""MSH-10 is empty."""
W_NO_VERSION = "W_NO_VERSION"
"""MSH-12 is empty."""

_MAX_ENVELOPE_BYTES = 4096
_FRAMING = "\x0b\x1c\x1a"
_BLANK = " \t\r\n" + _FRAMING
_BLANK_BYTES = _BLANK.encode()
_MSH_LINE = re.compile(rb"[\s\xef\xbb\xbf]*MSH(.)([^\r\n]*)")


def decode(
    data: bytes,
    *,
    encoding: str | None = None,
    fallback: str = DEFAULT_FALLBACK,
    max_bytes: int | None = None,
) -> Message:
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
    if not data.strip(_BLANK_BYTES):
        raise RejectError("E_EMPTY")
    text, charset, is_as_declared = _read(data, encoding, fallback)
    body, is_framed = _strip_framing(text)
    if not body.startswith("MSH"):
        raise RejectError("E_NO_MSH")
    delimiters = read_delimiters(body)
    lines = _join_lines(body.replace("\r\n", "\r").replace("\n", "\r"), delimiters.field)
    reader = _reader(delimiters, charset)
    msh = reader.header(lines.text)
    message_type, trigger_event = _value(msh, "9"), _value(msh, "9", "2")
    if message_type is None or not message_type.strip(' "'):
        raise RejectError("E_NO_MESSAGE_TYPE")
    segments = reader.segments(lines.text, message_type)
    control_id, version = _value(msh, "10"), _value(msh, "12")
    warnings = {
        W_CHARSET: not is_as_declared,
        W_DELIMITERS: not delimiters.is_regular,
        W_CONTINUATION: lines.is_continued,
        W_FRAGMENT: lines.is_fragment or (_value(msh, "14") or "").strip(' "') != "",
        W_FRAMING: is_framed,
        W_NO_CONTROL_ID: control_id is None,
        W_NO_VERSION: version is None,
    }
    dictionary = dictionary_version(version)
    structure = _value(msh, "9", "3")
    if structure is None or not structure.strip(' "'):
        structure = find_structure(dictionary, message_type, trigger_event)
    meta = Meta(
        control_id=control_id,
        message_type=message_type,
        trigger_event=trigger_event,
        structure=structure,
        version=version,
        dictionary=dictionary,
        sending_application=_value(msh, "3") or _value(msh, "3", "2"),
        sending_facility=_value(msh, "4") or _value(msh, "4", "2"),
        message_at=_value(msh, "7"),
        sha256=hashlib.sha256(data).hexdigest(),
        charset=charset,
        codec=CODEC,
        warnings=[name for name, applies in warnings.items() if applies],
    )
    return Message(meta, segments, body if is_framed else text, data)


def decode_envelope(data: bytes, *, encoding: str | None = None, fallback: str = DEFAULT_FALLBACK) -> Fields:
    """Decode an FHS or BHS line; for what a batch's messages are told of it.

    Raises:
        RejectError: E_DELIMITERS, E_CHARSET or E_CONTROL_CHARACTERS; or E_TOO_LARGE, for what it says is
            repeated with every message.
    """
    if len(data) > _MAX_ENVELOPE_BYTES:
        raise RejectError("E_TOO_LARGE")
    text, charset, _ = _read(data, encoding, fallback)
    body, _ = _strip_framing(text)
    return _reader(read_delimiters(body), charset).header(body)


_reader = lru_cache(maxsize=64)(Reader)


def _read(data: bytes, encoding: str | None, fallback: str) -> Text:
    if encoding:
        try:
            return Text(data.decode(encoding).removeprefix("\ufeff"), encoding, True)
        except UnicodeDecodeError:
            raise RejectError("E_CHARSET") from None
    declared: list[str] = []
    msh = _MSH_LINE.match(data)
    if msh:
        fields = msh[2].split(msh[1])  # from MSH-2
        repetition = fields[0][1:2] or b"~"
        declared = [name.decode("latin-1") for name in b"".join(fields[16:17]).split(repetition)]
    return read_text(data, declared, fallback)


def _strip_framing(text: str) -> tuple[str, bool]:
    """Drop blank lines at both ends; tell whether MLLP characters were among them."""
    rest = text.lstrip(_BLANK)
    body = rest.rstrip(_BLANK)
    around = text[: len(text) - len(rest)] + rest[len(body) :]
    # Blanks before the line end belong to the last value.
    blanks = len(rest) - len(rest[len(body) :].lstrip(" \t"))
    return rest[:blanks], any(map(around.__contains__, _FRAMING))


class _Lines(NamedTuple):
    """A message's segments, with a carriage return between each two, and what was found on the way."""

    text: str
    is_continued: bool
    is_fragment: bool


def _join_lines(text: str, separator: str) -> _Lines:
    """Make one line of each segment.

    A line that is no segment continues the one before it, joined by a line feed; blank lines are dropped,
    except within such a text. ADD continues the segment before it where that was cut, with nothing between
    (HL7 v2.5.1 chapter 2.10.2).
    """
    is_segment, is_unusual = _line_patterns(separator)
    if not is_unusual(text):
        return _Lines(text, False, False)
    header, *others = text.split("\r")
    segments = [[header]]
    blank: list[str] = []
    is_continued = False
    for line, kind in zip(others, _kinds(others, separator, is_segment), strict=True):
        if kind == "blank":
            blank += "\n", line
            continue
        before = segments[-1]
        if kind == "text":
            before += *blank, "\n", line
            is_continued = True
        elif kind == "ADD" and len(segments) > 1 and (len("".join(before[:2])) > 3 or line[4:5] == separator):
            before.append(line[4:])
            is_continued = True
        else:
            segments.append([line])
        blank = []
    lines = ["".join(parts) for parts in segments]
    is_fragment = any(
        _says_it_is_cut(line, following, separator) for line, following in pairwise([*lines, "DSC"])
    )
    return _Lines("\r".join(lines), is_continued, is_fragment)


def _kinds(lines: list[str], separator: str, is_segment: Callable[[str], object]) -> list[str]:
    """Say of each line whether it is blank, text, a segment, or an ADD with something to go on with.

    A line such as "NKA" looks like a segment: text behind it shows that it is text too. An ADD without fields
    at the end, or before DSC, is a segment: it says that the next message goes on.
    """
    kinds: list[str] = []
    behind = ""  # the name of the next segment, or text
    for line in reversed(lines):
        if not line.strip(_BLANK):
            kinds.append("blank")
            continue
        if not is_segment(line) or (len(line) == 3 and behind == "text"):
            kinds.append("text")
        elif line.startswith("ADD") and (line[4:].strip(separator) or behind not in {"", "DSC"}):
            kinds.append("ADD")
        else:
            kinds.append("segment")
        behind = "text" if kinds[-1] == "text" else line[:3]
    return kinds[::-1]


def _says_it_is_cut(line: str, following: str, separator: str) -> bool:
    """Whether a segment tells that the message goes on in another one, or goes on with one itself.

    So does an ADD under the header; one without fields at the end; and DSC, but for the one that offers the
    next results of a query (DSC-2 is I).
    """
    name, *fields = line.split(separator)
    if name == "ADD":
        return any(fields) or following.startswith("DSC")
    return name == "DSC" and fields[:1] not in ([], [""]) and fields[1:2] != ["I"]


_Pattern = Callable[[str], re.Match[str] | None]


@lru_cache(maxsize=64)
def _line_patterns(separator: str) -> tuple[_Pattern, _Pattern]:
    """Make the test for a line that is a segment, and the search for anything else in a text."""
    mark = re.escape(separator)
    return (
        re.compile(rf"[A-Z][A-Z0-9]{{2}}(?:{mark}|\Z)").match,
        re.compile(rf"\r(?:ADD|DSC|(?![A-Z][A-Z0-9]{{2}}(?:{mark}|\r|\Z)))").search,
    )


def _value(fields: Fields, number: str, component: str = "1") -> str | None:
    return fields[number][0].get(component) if number in fields else None
