"""The values that go to the topics: what was decoded or rejected, and long values beside it."""

import base64
import hashlib
from typing import Any, TypedDict

from loaders.hl7.decoder import Record
from loaders.hl7.rejects import Reject

MAX_VALUE_BYTES = 60_000
"""A longer value (an embedded document) is published by reference: a Redshift SUPER string ends at 65,535."""

# A byte of any character set gives three of UTF-8 at most: a message below this has no such value.
_ALWAYS_FITS = MAX_VALUE_BYTES // 3


class Original(TypedDict):
    """A line of ``hl7.originals`` in a topic directory: bytes as they came, in base64."""

    sha256: str
    bytes: str


def publish_message(record: Record, data: bytes) -> tuple[dict[str, Any], Original]:
    """Make the values of ``hl7.messages`` (``meta`` and ``segments``, without ``er7``) and ``hl7.originals``.

    In the first, a value above ``MAX_VALUE_BYTES`` is ``{"sha256": …, "bytes": n}``, hash and size of its
    UTF-8 form. ``data`` is the message as it came.
    """
    published: dict[str, Any] = {"meta": record["meta"], "segments": record["segments"]}
    if len(data) > _ALWAYS_FITS:
        published = _by_reference(published)
    original = Original(sha256=record["meta"]["sha256"], bytes=base64.b64encode(data).decode("ascii"))
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
