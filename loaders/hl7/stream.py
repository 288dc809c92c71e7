"""A whole input, message by message: whatever is wrong with one, its neighbours are decoded."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from loaders.hl7.charset import DEFAULT_FALLBACK
from loaders.hl7.decoder import Fields, Record, decode, decode_envelope
from loaders.hl7.framing import pieces
from loaders.hl7.rejects import Reject, RejectError, make_reject


class Message(NamedTuple):
    """A decoded message and its bytes as they came, without MLLP framing."""

    record: Record
    data: bytes


def decode_stream(
    chunks: Iterable[bytes],
    *,
    source: str,
    fallback: str = DEFAULT_FALLBACK,
    max_bytes: int | None = None,
) -> Iterator[Message | Reject]:
    """Decode an input, in order: each of its pieces is a message, a reject or a line of a batch's envelope.

    A batch's messages carry its FHS and BHS in ``meta.envelope``. Trailers (BTS, FTS) only end it.

    Args:
        chunks: the input, cut anywhere.
        source: its name, for the rejects.
        fallback: the character set for bytes that are neither as MSH-18 declares nor UTF-8.
        max_bytes: the longest message to decode; a longer one is E_TOO_LARGE.
    """
    envelope: dict[str, Fields] = {}
    position = 1
    for kind, byte_offset, data, encoding in pieces(chunks):
        try:
            match kind:
                case "MSH":
                    record = decode(data, encoding=encoding, fallback=fallback, max_bytes=max_bytes)
                    if envelope:
                        record["meta"]["envelope"] = envelope
                    yield Message(record, data)
                    position += 1
                case "FHS":
                    envelope = {"FHS": decode_envelope(data, encoding=encoding, fallback=fallback)}
                case "BHS":
                    envelope = envelope | {"BHS": decode_envelope(data, encoding=encoding, fallback=fallback)}
                case "BTS":
                    envelope = {name: fields for name, fields in envelope.items() if name != "BHS"}
                case "FTS":
                    envelope = {}
                case _:
                    raise RejectError(kind)
        except RejectError as error:
            yield make_reject(error.code, data, position=position, byte_offset=byte_offset, source=source)
            position += 1
