"""A whole input, message by message: whatever is wrong with one, its neighbours are decoded."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from loaders.hl7.charset import DEFAULT_FALLBACK
from loaders.hl7.decoder import Message, decode, decode_envelope
from loaders.hl7.framing import pieces
from loaders.hl7.rejects import Code, Reject, RejectError, make_reject
from loaders.hl7.segments import Fields

DEFAULT_MAX_BYTES = 4_000_000
# A message that is somewhat too large is one reject, with all its bytes.
_PARTS = 4


class Options(NamedTuple):
    """How to decode an input."""

    source: str
    """Its name, for the rejects."""
    fallback: str = DEFAULT_FALLBACK
    """The character set for bytes that are neither as MSH-18 declares nor UTF-8."""
    max_bytes: int = DEFAULT_MAX_BYTES
    """The longest message to decode; a longer one is E_TOO_LARGE, in parts where it is much longer."""


class Place(NamedTuple):
    """A message, or a reject, at its place in an input: what it takes to decode it without its neighbours."""

    code: Code | None
    """Why it is no message; None for one."""
    position: int
    byte_offset: int
    data: bytes
    encoding: str | None
    envelope: dict[str, Fields]


def decode_stream(
    chunks: Iterable[bytes],
    *,
    source: str,
    fallback: str = DEFAULT_FALLBACK,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Iterator[Message | Reject]:
    """Decode an input, given in chunks of any size, in order; for the arguments see ``Options``."""
    options = Options(source, fallback, max_bytes)
    return (decode_place(place, options) for place in places(chunks, options))


def places(chunks: Iterable[bytes], options: Options) -> Iterator[Place]:
    """Cut an input and number what comes out; quick beside decoding.

    A batch's messages carry its FHS and BHS. Trailers (BTS, FTS) only end it.
    """
    envelope: dict[str, Fields] = {}
    position = 1
    for kind, byte_offset, data, encoding in pieces(chunks, _PARTS * options.max_bytes):
        code: Code | None = None
        match kind:
            case "MSH":
                pass
            case "FHS" | "BHS" as name:
                envelope = {"FHS": envelope["FHS"]} if name == "BHS" and "FHS" in envelope else {}
                try:
                    fields = decode_envelope(data, encoding=encoding, fallback=options.fallback)
                except RejectError as error:
                    code = error.code
                else:
                    envelope |= {name: fields}
                    continue
            case "BTS":
                envelope = {name: fields for name, fields in envelope.items() if name != "BHS"}
                continue
            case "FTS":
                envelope = {}
                continue
            case _:
                code = kind
        yield Place(code, position, byte_offset, data, encoding, envelope)
        position += 1


def decode_place(place: Place, options: Options) -> Message | Reject:
    """Decode a message, or say why it cannot be."""
    code, position, byte_offset, data, encoding, envelope = place
    try:
        if code:
            raise RejectError(code)
        message = decode(data, encoding=encoding, fallback=options.fallback, max_bytes=options.max_bytes)
    except RejectError as error:
        return make_reject(
            error.code, data, position=position, byte_offset=byte_offset, source=options.source
        )
    if envelope:
        message.meta["envelope"] = envelope
    return message
