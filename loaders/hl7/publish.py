"""The values that go to the topics: what was decoded or rejected, and long values beside it."""

import base64
import hashlib
from typing import Any, TypedDict

import msgspec

from loaders.hl7.decoder import Message, Meta
from loaders.hl7.rejects import Reject
from loaders.hl7.segments import Segment

MAX_VALUE_BYTES = 60_000
"""A longer value (an embedded document) is published by reference: a Redshift SUPER string ends at 65,535."""

# A byte of any character set gives three of UTF-8 at most: a message below this has no such value.
_ALWAYS_FITS = MAX_VALUE_BYTES // 3


class Original(TypedDict):
    """A line of ``hl7.originals`` in a topic directory: bytes as they came, in base64."""

    sha256: str
    bytes: str


class Published(TypedDict):
    """A value of ``hl7.messages``; ``segments`` as JSON text where nothing in it had to be replaced."""

    meta: Meta
    segments: msgspec.Raw | list[Segment]


def publish_message(message: Message) -> tuple[Published, Original]:
    """Make the values of ``hl7.messages`` (without ``er7``) and ``hl7.originals``.

    In the first, a value above ``MAX_VALUE_BYTES`` is ``{"sha256": …, "bytes": n}``, hash and size of its
    UTF-8 form.
    """
    published = Published(meta=message.meta, segments=msgspec.Raw(message.segments.encode()))
    if len(message.data) > _ALWAYS_FITS:
        record = message.record
        published = Published(meta=_by_reference(record["meta"]), segments=_by_reference(record["segments"]))
    original = Original(sha256=message.meta["sha256"], bytes=base64.b64encode(message.data).decode("ascii"))
    return published, original


def publish_reject(reject: Reject) -> tuple[dict[str, Any], Original | None]:
    """Make the value of ``hl7.rejected``, and one of ``hl7.originals`` where its bytes are too long."""
    published: dict[str, Any] = {**reject}
    if len(reject["bytes"]) <= MAX_VALUE_BYTES:
        return published, None
    published["bytes"] = _reference(base64.b64decode(reject["bytes"]))
    return published, Original(sha256=reject["sha256"], bytes=reject["bytes"])


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
