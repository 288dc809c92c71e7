"""Cuts an input into messages, batch envelopes and what is neither; every byte ends up in one piece.

Frames are those of MLLP (0x0B message 0x1C 0x0D), batches those of HL7 v2 chapter 2 (FHS, BHS, BTS, FTS).
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal, NamedTuple

from loaders.hl7.rejects import Code

Envelope = Literal["FHS", "BHS", "BTS", "FTS"]
Kind = Literal["MSH"] | Envelope | Code
Section = Literal["", "MSH"] | Envelope
_NAMES: dict[bytes, Section] = {b"MSH": "MSH", b"FHS": "FHS", b"BHS": "BHS", b"BTS": "BTS", b"FTS": "FTS"}

START_BLOCK, END_BLOCK = b"\x0b", b"\x1c"
BOM = b"\xef\xbb\xbf"
_UTF16_BOM = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_BLANK = b" \t\r\n\x1a" + START_BLOCK + END_BLOCK + BOM

_MARK = rb"[!-/:-@\[-`{-~]"
_HEADER = re.compile(
    rb"[\r\n]\x0b?(?:\xef\xbb\xbf)?(?P<id>MSH|FHS|BHS|BTS|FTS)(?P<separator>" + _MARK + rb")"
)
# In other delimiters than "|", MSH-2 has to follow: a line of text may begin with "MSH-".
_OTHER_HEADER = re.compile(rb"(?:MSH|FHS|BHS)(" + _MARK + rb")(?:(?!\1)" + _MARK + rb"){1,5}(?:\1|[\r\n]|\Z)")
# More than a header and what tells it from text can take: none is overlooked where two chunks meet.
_LOOKAHEAD = 32
_LINE_END = re.compile(rb"\r\n|\r|\n")
_RESTART = re.compile(rb"\x0b(?=(?:\xef\xbb\xbf)?MSH" + _MARK + rb")")


class Piece(NamedTuple):
    """Bytes of one kind.

    ``kind`` is MSH for a message; FHS, BHS, BTS or FTS for a line of a batch's envelope; the code of the
    reject for what is neither. ``byte_offset`` is where ``data`` begins in the input. ``encoding`` is
    set where a byte order mark at the input's start says UTF-16.
    """

    kind: Kind
    byte_offset: int
    data: bytes
    encoding: str | None = None


def pieces(chunks: Iterable[bytes]) -> Iterator[Piece]:
    """Cut an input, given in chunks of any size; how it is divided into them makes no difference.

    What begins with 0x0B is cut at its MLLP frames, all else at lines that start with MSH and its
    delimiter. Joined together, the pieces are the input (less MLLP framing and blanks between frames).
    """
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) > 1:
            break
    chunks = chain((head,), source)
    if head.startswith(START_BLOCK):
        return _cut_frames(chunks)
    if head[:2] in _UTF16_BOM:
        return _cut_utf16(b"".join(chunks))
    return _cut_lines(chunks)


def _cut_frames(chunks: Iterable[bytes]) -> Iterator[Piece]:
    """Cut at MLLP frames; a frame that does not end, and bytes between frames, are E_FRAME."""
    offset = 0
    for part, is_ended in _split(chunks, END_BLOCK):
        outside, start, content = part.partition(START_BLOCK)
        stray = outside.removeprefix(b"\r") if offset else outside  # the second half of 0x1C 0x0D
        if stray.strip(_BLANK):
            yield Piece("E_FRAME", offset + len(outside) - len(stray), stray)
        begin = offset + len(outside) + 1
        while start and (again := _RESTART.search(content)):  # the sender began anew before the end
            yield Piece("E_FRAME", begin, content[: again.start()])
            content, begin = content[again.end() :], begin + again.end()
        if start and is_ended:
            yield from _cut_lines((content,), begin)
        elif start:
            yield Piece("E_FRAME", begin, content)
        offset += len(part) + 1


def _split(chunks: Iterable[bytes], separator: bytes) -> Iterator[tuple[bytes, bool]]:
    """Split at a separator of one byte; with each part, whether the separator ended it."""
    part: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(separator)
        part.append(first)
        for other in others:
            yield b"".join(part), True
            part = [other]
    yield b"".join(part), False


def _cut_utf16(data: bytes) -> Iterator[Piece]:
    """Cut what begins with a byte order mark of UTF-16."""
    encoding = _UTF16_BOM[data[:2]]
    try:
        text = data.decode(encoding).encode()
    except UnicodeDecodeError:
        yield Piece("E_CHARSET", 0, data)
        return
    offset = 0
    for piece in _cut_lines((text,)):
        as_sent = piece.data.decode().encode(encoding)
        yield Piece(piece.kind, offset, as_sent, encoding)
        offset += len(as_sent)


def _cut_lines(chunks: Iterable[bytes], offset: int = 0) -> Iterator[Piece]:
    """Cut at lines that start a message or belong to a batch's envelope.

    Blank lines belong to the message before them, or to the first one. Other lines before the first
    message, or under the envelope, are E_NO_MSH; no message and no such line at all is E_EMPTY.
    """
    blank = b""
    is_empty = True
    for name, section in _sections(chunks):
        data = blank + section
        blank = b""
        is_text = data.strip(_BLANK) != b""
        if name == "MSH":
            yield Piece("MSH", offset, data)
        elif name:
            size = _first_line(data)
            is_text = data[size:].strip(_BLANK) != b""
            yield Piece(name, offset, data[:size] if is_text else data)
            if is_text:
                yield Piece("E_NO_MSH", offset + size, data[size:])
        elif is_text:
            yield Piece("E_NO_MSH", offset, data)
        else:
            blank = data
            continue
        is_empty = is_empty and not (name == "MSH" or is_text)
        offset += len(data)
    if is_empty:
        yield Piece("E_EMPTY", offset, blank)


def _first_line(data: bytes) -> int:
    """Size of the first line that is not blank, with its line end."""
    end = _LINE_END.search(data, len(data) - len(data.lstrip(_BLANK)))
    return end.end() if end else len(data)


def _sections(chunks: Iterable[bytes]) -> Iterator[tuple[Section, bytes]]:
    """Cut before each header line; "" is the name of what stands before the first."""
    buffer = b"\n"  # before the input and each section: a first line is a line like the others
    name: Section = ""
    separator = b""
    seen = 0
    for chunk in chain(chunks, (None,)):
        buffer += chunk or b""
        safe = len(buffer) - (0 if chunk is None else _LOOKAHEAD)
        begin = 1
        for header in _HEADER.finditer(buffer, seen):
            if header.start() >= safe:
                break
            if header["separator"] in (b"|", separator) or _OTHER_HEADER.match(buffer, header.start("id")):
                yield name, buffer[begin : header.start() + 1]
                begin, seen = header.start() + 1, header.end()
                name, separator = _NAMES[header["id"]], header["separator"]
        seen = max(seen, safe) - (begin - 1)
        buffer = buffer[begin - 1 :]
    yield name, buffer[1:]
