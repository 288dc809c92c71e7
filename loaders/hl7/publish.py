"""The values that go to the topics: the decoded message, and its bytes beside it."""

import base64
import hashlib
from typing import Any, TypedDict

from loaders.hl7.decoder import Record

MAX_VALUE_BYTES = 60_000
"""A longer value (an embedded document) is published by reference: a Redshift SUPER string ends at 65,535."""

# A byte of any character set gives three of UTF-8 at most: a message below this has no such value.
_ALWAYS_FITS = MAX_VALUE_BYTES // 3


class Original(TypedDict):
    """A line of ``hl7.originals`` in a topic directory: the message's bytes in base64."""

    sha256: str
    bytes: str


def make_published(record: Record, data: bytes) -> dict[str, Any]:
    """Make the value of ``hl7.messages``: ``meta`` and ``segments``, without ``er7``.

    A value above ``MAX_VALUE_BYTES`` is replaced by ``{"sha256": …, "bytes": n}``, hash and size of its
    UTF-8 form. ``data`` is the message as it came.
    """
    published = {"meta": record["meta"], "segments": record["segments"]}
    return _by_reference(published) if len(data) > _ALWAYS_FITS else published


def _by_reference(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _by_reference(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_by_reference(inner) for inner in value]
    if isinstance(value, str) and len(encoded := value.encode()) > MAX_VALUE_BYTES:
        return {"sha256": hashlib.sha256(encoded).hexdigest(), "bytes": len(encoded)}
    return value


def make_original(record: Record, data: bytes) -> Original:
    """Make the line of ``hl7.originals``."""
    return Original(sha256=record["meta"]["sha256"], bytes=base64.b64encode(data).decode("ascii"))
