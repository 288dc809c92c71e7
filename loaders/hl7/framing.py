"""Cuts an input into messages, batch envelopes and what is neither; every byte ends up in one piece.

Frames are those of MLLP (0x0B message 0x1C 0x0D), batches those of HL7 v2 chapter 2 (FHS, BHS, BTS, FTS).
"""

import codecs
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from operator import methodcaller
from typing import Literal, NamedTuple

from loaders.hl7.rejects import Code

Envelope = Literal["FHS", "BHS", "BTS", "FTS"]
Kind = Literal["MSH"] | Envelope | Code
Section = Literal["", "MSH", "E_TOO_LARGE"] | Envelope
_End = Literal["separator", "too large", "input"]
_NAMES: dict[bytes, Section] = {b"MSH": "MSH", b"FHS": "FHS", b"BHS": "BHS", b"BTS": "BTS", b"FTS": "FTS"}

START_BLOCK, END_BLOCK = b"\x0b", b"\x1c"
BOM = b"\xef\xbb\xbf"
_UTF16_BOM = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_BLANK = b" \t\r\n\x1a" + START_BLOCK + END_BLOCK + BOM

_MARK = rb"[!-/:-@\[-`{-~]"
# One search for each line end: the engine is ten times faster where a pattern begins with a certain byte.
_HEADERS = [
    re.compile(line_end + rb"\x0b?(?:\xef\xbb\xbf)?(?P<id>MSH|FHS|BHS|BTS|FTS)(?P<separator>" + _MARK + rb")")
    for line_end in (rb"\r", rb"\n")
]
# In other delimiters than "|", MSH-2 has to follow: a line of text may begin with "MSH-".
_OTHER_HEADER = re.compile(rb"(?:MSH|FHS|BHS)(" + _MARK + rb")(?:(?!\1)" + _MARK + rb"){1,5}(?:\1|[\r\n]|\Z)")
# The first line of all may be indented; further down that is text.
_INDENTED = re.compile(rb"[ \t\r\n]+MSH" + _MARK)
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


def pieces(chunks: Iterable[bytes], max_bytes: int = sys.maxsize) -> Iterator[Piece]:
    """Cut an input, given in chunks of any size; how it is divided into them makes no difference.

    What begins with 0x0B is cut at its MLLP frames, all else at lines that start with MSH and its
    delimiter. Joined together, the pieces are the input (less MLLP framing and blanks between frames).

    What is longer than ``max_bytes`` comes in parts of that size, each E_TOO_LARGE: no input can fill memory.
    """
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) > 1:
            break
    chunks = chain((head,), source)
    if head.startswith(START_BLOCK):
        return _cut_frames(chunks, max_bytes)
    if head[:2] in _UTF16_BOM:
        return _cut_utf16(chunks, _UTF16_BOM[head[:2]], max_bytes)
    return _cut_lines(chunks, max_bytes)


class _Pile:
    """Bytes that belong together, as they come; in parts where they are too many."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> Iterator[bytes]:
        """Take more in; give away what is beyond the size, in full parts."""
        self._parts.append(data)
        self.size += len(data)
        if self.size > self._max_bytes:
            whole, start = self.take(), 0
            while len(whole) - start > self._max_bytes:
                end = start + self._max_bytes
                while whole[end] & 0xC0 == 0x80 and end > max(start + 1, start + self._max_bytes - 3):
                    end -= 1  # not within a character of UTF-8
                yield whole[start:end]
                start = end
            self._parts, self.size = [whole[start:]], len(whole) - start

    def take(self) -> bytes:
        """Give what there is, and begin anew."""
        whole = b"".join(self._parts)
        self._parts, self.size = [], 0
        return whole


class FrameCutter:
    """Cuts at MLLP frames what comes in chunks of any size, each piece as soon as its end is there.

    A frame that does not end, and bytes between frames, are E_FRAME. What each method gives has to be taken
    before the next one is called.
    """

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes``: what is longer comes in parts of that size, each E_TOO_LARGE."""
        self._max_bytes = max_bytes
        self._pile = _Pile(max_bytes)
        self._offset = 0
        self._is_cut = False
        self._holds_text = False

    @property
    def held_bytes(self) -> int:
        """How much waits for its end; blanks between frames wait for nothing."""
        return self._pile.size if self._holds_text else 0

    def cut(self, chunk: bytes) -> Iterator[Piece]:
        """Take more of the input in."""
        first, *others = chunk.split(END_BLOCK)
        self._holds_text = self._holds_text or not _is_blank(first)
        yield from self._add(first)
        for other in others:
            yield from self._pieces(self._pile.take(), "separator")
            self._holds_text = not _is_blank(other)
            yield from self._add(other)

    def end(self) -> Iterator[Piece]:
        """The input ends here."""
        yield from self._pieces(self._pile.take(), "input")

    def _add(self, data: bytes) -> Iterator[Piece]:
        for part in self._pile.add(data):
            yield from self._pieces(part, "too large")

    def _pieces(self, part: bytes, end: _End) -> Iterator[Piece]:
        """Make pieces of what stands between two end blocks."""
        begin = self._offset
        self._offset += len(part) + (end == "separator")
        was_cut, self._is_cut = self._is_cut, end == "too large"
        if was_cut or self._is_cut:
            yield Piece("E_TOO_LARGE", begin, part)
            return
        outside, start, content = part.partition(START_BLOCK)
        stray = outside.removeprefix(b"\r") if begin else outside  # the second half of 0x1C 0x0D
        if not _is_blank(stray):
            yield Piece("E_FRAME", begin + len(outside) - len(stray), stray)
        begin += len(outside) + 1
        at = 0
        for again in _RESTART.finditer(content):  # the sender began anew before the end
            yield Piece("E_FRAME", begin + at, content[at : again.start()])
            at = again.end()
        if start and end == "separator":
            yield from _cut_lines((content[at:],), self._max_bytes, begin + at)
        elif start:
            yield Piece("E_FRAME", begin + at, content[at:])


def _cut_frames(chunks: Iterable[bytes], max_bytes: int) -> Iterator[Piece]:
    cutter = FrameCutter(max_bytes)
    for chunk in chunks:
        yield from cutter.cut(chunk)
    yield from cutter.end()


def _cut_utf16(chunks: Iterable[bytes], encoding: str, max_bytes: int) -> Iterator[Piece]:
    """Cut what begins with a byte order mark of UTF-16, by way of UTF-8; what is neither stays as it came."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    texts = (decoder.decode(chunk).encode("utf-8", "surrogatepass") for chunk in chunks)
    offset = 0
    for piece, following in pairwise(chain(_cut_lines(texts, max_bytes), (None,))):
        assert piece is not None
        as_sent = piece.data.decode("utf-8", "surrogatepass").encode(encoding, "surrogatepass")
        if following is None:
            as_sent += decoder.getstate()[0]  # half a character, where the input ends
        yield Piece(piece.kind if _is_text(as_sent, encoding) else "E_CHARSET", offset, as_sent, encoding)
        offset += len(as_sent)


def _is_text(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _cut_lines(chunks: Iterable[bytes], max_bytes: int, offset: int = 0) -> Iterator[Piece]:
    """Cut at lines that start a message or belong to a batch's envelope.

    Blank lines belong to the message before them, or to the first one. Other lines before the first
    message, or under the envelope, are E_NO_MSH; no message and no such line at all is E_EMPTY.
    """
    blank = b""
    is_empty = True
    for name, section in _sections(chunks, max_bytes):
        data = blank + section
        blank = b""
        is_text = not _is_blank(data)
        if name == "MSH" or name == "E_TOO_LARGE":  # noqa: PLR1714 - mypy
            is_text = True
            yield Piece(name, offset, data)
        elif name:
            size = _first_line(data)
            is_text = not _is_blank(data[size:])
            yield Piece(name, offset, data[:size] if is_text else data)
            if is_text:
                yield Piece("E_NO_MSH", offset + size, data[size:])
        elif is_text:
            yield Piece("MSH" if _INDENTED.match(data) else "E_NO_MSH", offset, data)
        else:
            blank = data
            continue
        is_empty = is_empty and not is_text
        offset += len(data)
    if is_empty:
        yield Piece("E_EMPTY", offset, blank)


def _is_blank(data: bytes) -> bool:
    # A byte of a byte order mark alone is text; most data ends the first test at its first byte.
    return not data.strip(_BLANK) and not data.replace(BOM, b"").strip(_BLANK.removesuffix(BOM))


def _first_line(data: bytes) -> int:
    """Size of the first line that is not blank, with its line end."""
    end = _LINE_END.search(data, len(data) - len(data.lstrip(_BLANK)))
    return end.end() if end else len(data)


def _sections(chunks: Iterable[bytes], max_bytes: int) -> Iterator[tuple[Section, bytes]]:
    """Cut before each header line; "" is the name of what stands before the first."""
    pile = _Pile(max_bytes)
    name: Section = ""
    separator = b""
    window = b"\n"  # from the byte before: the first line of all is a line like the others
    seen = 0
    for chunk in chain(chunks, (None,)):
        window += chunk or b""
        safe = len(window) - (0 if chunk is None else _LOOKAHEAD)
        begin = 1
        for header in sorted(
            chain.from_iterable(pattern.finditer(window, seen) for pattern in _HEADERS),
            key=methodcaller("start"),
        ):
            if header.start() >= safe:
                break
            if header["separator"] in (b"|", separator) or _OTHER_HEADER.match(window, header.start("id")):
                for part in pile.add(window[begin : header.start() + 1]):
                    name = "E_TOO_LARGE"
                    yield name, part
                yield name, pile.take()
                begin = seen = header.start() + 1
                name, separator = _NAMES[header["id"]], header["separator"]
        end = max(begin, safe)
        for part in pile.add(window[begin:end]):
            name = "E_TOO_LARGE"
            yield name, part
        seen = max(seen, safe) - (end - 1)
        window = window[end - 1 :]
    yield name, pile.take()
