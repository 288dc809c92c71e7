"""The records that go to the topics: what was decoded or rejected, and the bytes as they came beside it."""

import base64
import hashlib
from typing import Any, NamedTuple, TypedDict

import msgspec

from loaders.hl7.decoder import Message, Meta
from loaders.hl7.rejects import Reject, make_reject
from loaders.hl7.segments import Fields, Segment
from loaders.hl7.stream import Options, Place, decode_place
from loaders.kafka.outgoing import Outgoing

HL7_TOPICS = MESSAGES, ORIGINALS, REJECTED = ("hl7.messages", "hl7.originals", "hl7.rejected")

MAX_VALUE_BYTES = 60_000
"""A longer value (an embedded document) is published by reference: a Redshift SUPER string ends at 65,535."""

# A byte of any character set gives three of UTF-8 at most: a message below this has no such value.
_ALWAYS_FITS = MAX_VALUE_BYTES // 3
# As the identifier_types seed has it: the medical record number first, what is no patient's number never.
_PREFERRED_TYPES = ("MR", "PI", "PT")
_OTHER_TYPES = frozenset({"SS", "DL", "AN"})
_to_json = msgspec.json.Encoder().encode


class Published(TypedDict):
    """A value of ``hl7.messages``; ``segments`` as JSON text where nothing in it had to be replaced."""

    meta: Meta
    segments: msgspec.Raw | list[Segment]


class Publication(NamedTuple):
    """What a place in an input came to, and the records that say so; they belong together."""

    result: Message | Reject
    records: list[Outgoing]


def publish_place(place: Place, options: Options) -> Publication:
    """Decode a message and make its records.

    A message is a record of ``hl7.originals`` and one of ``hl7.messages``; a reject is one of
    ``hl7.rejected``, and one of ``hl7.originals`` where its bytes are long. A message whose JSON is above
    ``options.max_bytes`` is rejected as E_TOO_LARGE: no warehouse would take it.
    """
    result = decode_place(place, options)
    if isinstance(result, Message):
        value = _to_json(publish_message(result))
        if len(value) <= options.max_bytes:
            original = Outgoing(ORIGINALS, result.meta["sha256"], result.data)
            return Publication(result, [original, Outgoing(MESSAGES, message_key(result), value)])
        result = make_reject(
            "E_TOO_LARGE",
            place.data,
            position=place.position,
            byte_offset=place.byte_offset,
            source=options.source,
        )
    published = publish_reject(result)
    records = [Outgoing(REJECTED, result["sha256"], _to_json(published))]
    if published["bytes"] != result["bytes"]:
        records.insert(0, Outgoing(ORIGINALS, result["sha256"], place.data))
    return Publication(result, records)


def publish_message(message: Message) -> Published:
    """Make the value of ``hl7.messages``, without ``er7``.

    In it a value above ``MAX_VALUE_BYTES`` is ``{"sha256": …, "bytes": n}``, hash and size of its UTF-8 form.
    """
    if len(message.data) <= _ALWAYS_FITS:
        return Published(meta=message.meta, segments=msgspec.Raw(message.segments.encode()))
    record = message.record
    return Published(meta=_by_reference(record["meta"]), segments=_by_reference(record["segments"]))


def publish_reject(reject: Reject) -> dict[str, Any]:
    """Make the value of ``hl7.rejected``, in which bytes that are too long stand by reference."""
    if len(reject["bytes"]) <= MAX_VALUE_BYTES:
        return {**reject}
    return {**reject, "bytes": _reference(base64.b64decode(reject["bytes"]))}


class _Segment(msgspec.Struct):
    id: str
    fields: msgspec.Raw


_segments = msgspec.json.Decoder(list[_Segment])
_fields = msgspec.json.Decoder(Fields)


def message_key(message: Message) -> str:
    """The key of a message in ``hl7.messages``: the same for all messages of one facility on one patient.

    A hash of the sending facility and of the identifier in the first PID: of PID-3 the medical record number,
    else the first that is a patient's, else PID-2. A message without one has a key of its own.
    """
    pid = next((segment for segment in _segments.decode(message.segments) if segment.id == "PID"), None)
    identifier = _patient_identifier(_fields.decode(pid.fields)) if pid else None
    if identifier is None:
        return message.meta["sha256"]
    return hashlib.sha256(f"{message.meta['sending_facility'] or ''}\n{identifier}".encode()).hexdigest()


def _patient_identifier(pid: Fields) -> str | None:
    found = [
        (_PREFERRED_TYPES.index(kind) if kind in _PREFERRED_TYPES else len(_PREFERRED_TYPES), identifier)
        for repetition in pid.get("3", [])
        if (identifier := _text(repetition, "1")) and (kind := _text(repetition, "5")) not in _OTHER_TYPES
    ]
    if found:
        return min(found, key=lambda ranked: ranked[0])[1]
    return next(filter(None, (_text(repetition, "1") for repetition in pid.get("2", []))), None)


def _text(repetition: dict[str, str], component: str) -> str:
    """A value, "" where it is absent, blank or HL7's null."""
    return repetition.get(component, "").strip(' "')


def _by_reference(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _by_reference(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_by_reference(inner) for inner in value]
    if isinstance(value, str) and len(encoded := value.encode()) > MAX_VALUE_BYTES:
        return _reference(encoded)
    return value


def _reference(data: bytes) -> dict[str, str | int]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
