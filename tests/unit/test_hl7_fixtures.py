"""One file for each thing that senders do, and its result beside it, written by hand from the standard."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from loaders.hl7.decoder import Message
from loaders.hl7.rejects import CODEC, Code
from loaders.hl7.stream import decode_stream

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "hl7"
NAMES = sorted(file.stem for file in FIXTURES.glob("*.hl7"))

# Encodings that only a byte order mark tells: it is no part of the text.
_BOM = "\ufeff"


def expected(name: str) -> dict[str, Any]:
    """``about``, ``settings`` of ``decode_stream``, and ``results`` in order.

    A message is ``{"meta": the keys that matter, "segments": all}``, a reject ``{"code", "byte_offset",
    "size"}`` and, where a header could be read, ``msh``.
    """
    found: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def test_each_file_has_its_result_beside_it() -> None:
    assert len(NAMES) >= 85
    assert sorted(file.stem for file in FIXTURES.glob("*.json")) == NAMES


def test_every_reject_code_has_a_file() -> None:
    codes = {result["code"] for name in NAMES for result in expected(name)["results"] if "code" in result}
    assert codes == set(Code.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_a_fixture_gives_what_stands_beside_it(name: str) -> None:
    data = (FIXTURES / f"{name}.hl7").read_bytes()
    fixture = expected(name)
    found = list(decode_stream([data], source=f"{name}.hl7", **fixture.get("settings", {})))
    results = fixture["results"]
    assert [r["code"] if not isinstance(r, Message) else "message" for r in found] == [
        r.get("code", "message") for r in results
    ]
    for position, (result, want) in enumerate(zip(found, results, strict=True), 1):
        if isinstance(result, Message):
            record = result.record
            meta = record["meta"]
            assert {key: meta.get(key) for key in want["meta"]} == want["meta"]
            assert ("envelope" in meta) == bool(want["meta"].get("envelope"))
            assert record["segments"] == want["segments"]
            # what goes for every message
            assert meta["sha256"] == hashlib.sha256(result.data).hexdigest()
            assert meta["codec"] == CODEC
            text = result.data.decode(meta["charset"]).removeprefix(_BOM)
            er7 = record["er7"]
            assert er7 in text if "W_FRAMING" in meta["warnings"] else er7 == text
        else:
            at, size = want["byte_offset"], want["size"]
            no_msh = dict.fromkeys(("control_id", "message_type", "version", "sending_facility"))
            assert result == {
                "code": want["code"],
                "position": position,
                "byte_offset": at,
                "sha256": hashlib.sha256(data[at : at + size]).hexdigest(),
                "msh": want.get("msh", no_msh),
                "source": f"{name}.hl7",
                "codec": CODEC,
                "bytes": base64.b64encode(data[at : at + size]).decode(),
            }
