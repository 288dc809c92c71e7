"""Nothing is lost, added or moved: every byte, value and place of every HL7 file there is.

What is compared with the records comes from ``hl7_independent``, which shares nothing with the decoder.
"""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from loaders.hl7.decoder import Message
from loaders.hl7.publish import MAX_VALUE_BYTES
from loaders.ingest import ingest_to_directory
from tests.unit import hl7_independent as independent
from tests.unit.hl7_files import EXAMPLES, FIXTURES, FOLDERS, files, needs_corpus, results
from tests.unit.hl7_invariants import check_chunks, check_results


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_all_that_was_sent_is_in_the_records(folder: Path) -> None:
    assert files(folder)
    for file in files(folder):
        try:
            check_results(file.read_bytes(), results(file))
        except AssertionError as error:
            pytest.fail(f"{file.name}: {error}", pytrace=False)


@needs_corpus
def test_there_is_something_to_lose() -> None:
    messages = [r for folder in FOLDERS for f in files(folder) for r in results(f) if isinstance(r, Message)]
    assert len(messages) > 1850
    values = sum(len(list(independent.decoded_leaves([*map(dict, m.record["segments"])]))) for m in messages)
    assert values > 100_000


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_header_line_begins_a_result(folder: Path) -> None:
    for file in files(folder):
        data = file.read_bytes()
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            continue
        found = [r.data if isinstance(r, Message) else base64.b64decode(r["bytes"]) for r in results(file)]
        begun = sum(piece.lstrip(b"\xef\xbb\xbf \t\r\n\x0b").startswith(b"MSH|") for piece in found)
        headers = independent.header_count(data.decode("latin-1").replace("\xef\xbb\xbf", "\ufeff"))
        assert headers == begun, file.name


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_message_has_the_values_of_its_envelope(folder: Path) -> None:
    for file in files(folder):
        data = file.read_bytes()
        if not re.search(rb"(?:FHS|BHS)\|", data) or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            continue
        sent = list(independent.envelopes(data.decode("utf-8", "replace")))
        kept = [r.meta.get("envelope", {}) for r in results(file) if isinstance(r, Message)]
        assert len(sent) == len(kept) > 0 or not any(sent), file.name
        found = [
            {
                name: list(independent.decoded_leaves([{"n": 1, "id": name, "fields": fields}]))
                for name, fields in envelope.items()
            }
            for envelope in kept
        ]
        is_same = found == sent
        assert is_same, file.name


@pytest.mark.parametrize("folder", [EXAMPLES, FIXTURES], ids=lambda folder: folder.name)
def test_how_a_file_is_read_makes_no_difference(folder: Path) -> None:
    for file in files(folder):
        check_chunks(file.read_bytes(), (1, 2, 7, 100))


def test_what_is_ingested_is_what_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = [file for folder in FOLDERS for file in files(folder)]
    counts = ingest_to_directory([str(file) for file in every], tmp_path)

    originals, messages, rejected = (
        iter(lines(tmp_path / f"hl7.{name}.jsonl")) for name in ("originals", "messages", "rejected")
    )
    kept = {original["sha256"]: base64.b64decode(original["bytes"]) for original in originals}
    assert all(hashlib.sha256(data).hexdigest() == sha256 for sha256, data in kept.items())
    for file in every:
        pieces: list[tuple[bytes, int | None]] = []
        for result in results(file):
            if isinstance(result, Message):
                message = next(messages)
                pieces.append((kept[message["meta"]["sha256"]], None))
                assert set(message) == {"meta", "segments"}
                is_same = message["meta"] == result.meta and is_published_as(
                    result.record["segments"], message["segments"]
                )
                assert is_same, file.name
            else:
                reject = next(rejected)
                is_long = isinstance(reject["bytes"], dict)
                data = kept[reject["sha256"]] if is_long else base64.b64decode(reject["bytes"])
                assert hashlib.sha256(data).hexdigest() == reject["sha256"] == result["sha256"]
                pieces.append((data, reject["byte_offset"]))
        assert independent.left_over(file.read_bytes(), pieces) == 0, file.name
    assert (next(messages, None), next(rejected, None)) == (None, None)
    assert counts.messages + counts.rejects == sum(len(results(file)) for file in every)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == counts.rejects


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def is_published_as(value: Any, published: Any) -> bool:
    """Whether a value is published as it is, and its long strings by hash and size."""
    match value:
        case dict():
            return value.keys() == published.keys() and all(
                is_published_as(inner, published[key]) for key, inner in value.items()
            )
        case list():
            return len(value) == len(published) and all(map(is_published_as, value, published))
        case str() if len(encoded := value.encode()) > MAX_VALUE_BYTES:
            return bool(published == {"sha256": hashlib.sha256(encoded).hexdigest(), "bytes": len(encoded)})
        case _:
            return bool(value == published)
