"""What holds for every input whatsoever; for property tests, public messages and the fuzz target alike.

A failure tells coordinates and never a value: pytest does not rewrite the assertions of this file.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from loaders.hl7.decoder import Message
from loaders.hl7.rejects import CODEC, Code, Reject
from loaders.hl7.stream import decode_stream
from tests.unit import hl7_independent as independent

CODES = frozenset(Code.__args__)  # type: ignore[attr-defined]
WARNINGS = frozenset(
    f"W_{name}"
    for name in (
        "CHARSET",
        "DELIMITERS",
        "CONTINUATION",
        "FRAGMENT",
        "FRAMING",
        "NO_CONTROL_ID",
        "NO_VERSION",
    )
)

# JSON for a byte of input, at most: a line "OBX" under five others; and for a message or reject of any size.
_BYTES_FOR_A_BYTE, _BYTES_FOR_A_RESULT = 60, 2_000
# Of the lines of its batch's envelope, which stand in each message.
_BYTES_FOR_AN_ENVELOPE = 200_000

Result = Message | Reject


def check(data: bytes) -> list[Result]:
    """Decode an input and check all that holds for it."""
    results = decode(data)
    check_results(data, results)
    return results


def decode(data: bytes, size: int | None = None) -> list[Result]:
    """Decode an input in chunks of a size."""
    return list(decode_stream(chunks(data, size or max(len(data), 1)), source="input"))


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    """Cut an input."""
    return (data[at : at + size] for at in range(0, len(data), size))


def check_chunks(data: bytes, sizes: Iterable[int]) -> None:
    """Check that it makes no difference how an input is divided."""
    whole = decode(data)
    for size in sizes:
        assert decode(data, size) == whole, f"chunks of {size} give something else"


def check_results(data: bytes, results: list[Result]) -> None:
    """Check what came of an input: every byte of it is accounted for, every result is as it should be."""
    pieces: list[tuple[bytes, int | None]] = []
    size = 0
    for position, result in enumerate(results, 1):
        where = f"result {position}"
        if isinstance(result, Message):
            check_message(result, where)
            pieces.append((result.data, None))
            size += len(result.segments.encode()) + len(result.er7.encode()) + _json_size(result.meta)
            size -= len(json.dumps(result.meta.get("envelope", {})))
        else:
            kept = _check_reject(data, result, position)
            pieces.append((kept, result["byte_offset"]))
            size += _json_size(result)
    lost = independent.left_over(data, pieces)
    assert lost == 0, f"{lost} of {len(data)} bytes are in no result"
    most = _BYTES_FOR_A_BYTE * len(data) + _BYTES_FOR_A_RESULT * len(results)
    assert size <= most, f"{size} bytes of JSON from {len(data)}"
    assert len(results) <= len(data) + 1, f"{len(results)} results from {len(data)} bytes"


def _json_size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


def _check_reject(data: bytes, reject: Reject, position: int) -> bytes:
    where = f"reject {position}"
    kept = base64.b64decode(reject["bytes"], validate=True)
    at: int = reject["byte_offset"]
    assert reject["code"] in CODES, where
    assert (reject["position"], reject["source"], reject["codec"]) == (position, "input", CODEC), where
    assert data[at : at + len(kept)] == kept, f"{where}: its bytes do not stand where it says"
    assert reject["sha256"] == hashlib.sha256(kept).hexdigest(), where
    assert all(value is None or 0 < len(str(value)) <= 64 for value in reject["msh"].values()), where
    return kept


def check_message(message: Message, where: str = "message") -> None:
    """Check that a message lost nothing, gained nothing and moved nothing."""
    record = message.record
    meta, segments = record["meta"], [dict(segment) for segment in record["segments"]]
    assert meta["sha256"] == hashlib.sha256(message.data).hexdigest(), where
    assert meta["codec"] == CODEC, where
    assert set(meta["warnings"]) <= WARNINGS, where
    assert len(json.dumps(meta.get("envelope", {})).encode()) <= _BYTES_FOR_AN_ENVELOPE, where

    charset = meta["charset"]
    as_sent = message.data.decode(charset).removeprefix("\ufeff")
    if "W_FRAMING" in meta["warnings"]:
        before, _, after = as_sent.partition(message.er7)
        assert not (before + after).strip(independent.AROUND), f"{where}: er7 is not the text"
    else:
        assert message.er7 == as_sent, f"{where}: er7 is not the text"

    parsed = independent.parse(independent.text_of(message.data, charset))
    sent = dict(independent.leaves(parsed, charset))
    decoded = dict(independent.decoded_leaves(segments))
    assert sent.keys() == decoded.keys(), f"{where}: {_first_difference(sent, decoded)}"
    assert sent == decoded, f"{where}: {_first_difference(sent, decoded)}"
    assert all(decoded.values()), f"{where}: an empty value"
    names = [line[:3] for line in parsed.lines]
    assert [(s["n"], s["id"]) for s in segments] == list(enumerate(names, 1)), where
    above = [segment.get("parent", {}) for segment in segments]
    message_type = sent.get((1, "MSH", 9, 1, 1, 1), "")
    assert above == independent.parents(names, message_type), f"{where}: parents"

    again = independent.canonical(parsed, charset)
    assert independent.encode(segments) == again, f"{where}: the segments written again"
    written = again.split("\r")
    if any(re.match(r"(?:MSH|FHS|BHS|BTS|FTS)\W", line) for line in written[1:]):
        return  # ADD has made a header of a name that stood alone
    if not parsed.marks.escape and any("\n" in value for value in sent.values()):
        return  # a line end cannot be written in one line
    if any(b[:3] == "ADD" and (a[:3] == "ADD" or len(a) == 3) for a, b in pairwise(written)):
        return  # an ADD with nothing before it to go on with: once it has a value, it may have
    # A byte order mark, so that no other character set is thought of.
    (result,) = decode_stream([b"\xef\xbb\xbf" + again.encode()], source="again")
    assert isinstance(result, Message), f"{where}: the segments written and read again: {_code(result)}"
    assert result.segments == message.segments, f"{where}: the segments written and read again"


def _code(result: Result) -> str:
    return "a message" if isinstance(result, Message) else result["code"]


def _first_difference(
    sent: dict[independent.Place, str], decoded: dict[independent.Place, str]
) -> independent.Place:
    return min(place for place in sent.keys() | decoded.keys() if sent.get(place) != decoded.get(place))
