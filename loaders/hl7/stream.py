"""A whole input, message by message: whatever is wrong with one, its neighbours are decoded."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from loaders.hl7.charset import DEFAULT_FALLBACK
from loaders.hl7.decoder import Message, decode, decode_envelope
from loaders.hl7.framing import Piece, pieces
from loaders.hl7.rejects import Code, Reject, RejectError, make_reject
from loaders.hl7.segments import Fields

DEFAULT_MAX_BYTES = 4_000_000
PARTS = 4
"""A message that is up to so many times too large is one reject, with all its bytes."""


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
    return Numbering(options).places(pieces(chunks, PARTS * options.max_bytes))


class Numbering:
    """What has been seen of an input that comes piece by piece: how many places, which envelope is open."""

    def __init__(self, options: Options) -> None:
        """Nothing yet."""
        self._options = options
        self._envelope: dict[str, Fields] = {}
        self._position = 1

    def places(self, following: Iterable[Piece]) -> Iterator[Place]:
        """Number what comes next."""
        for kind, byte_offset, data, encoding in following:
            code: Code | None = None
            match kind:
                case "MSH":
                    pass
                case "FHS" | "BHS" as name:
                    is_in_file = name == "BHS" and "FHS" in self._envelope
                    self._envelope = {"FHS": self._envelope["FHS"]} if is_in_file else {}
                    try:
                        fields = decode_envelope(data, encoding=encoding, fallback=self._options.fallback)
                    except RejectError as error:
                        code = error.code
                    else:
                        self._envelope |= {name: fields}
                        continue
                case "BTS":
                    self._envelope = {
                        name: fields for name, fields in self._envelope.items() if name != "BHS"
                    }
                    continue
                case "FTS":
                    self._envelope = {}
                    continue
                case _:
                    code = kind
            yield Place(code, self._position, byte_offset, data, encoding, self._envelope)
            self._position += 1


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
