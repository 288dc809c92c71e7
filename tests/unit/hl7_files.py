"""The HL7 files there are: examples and fixtures, and public messages where they are at hand."""

import os
from functools import cache
from pathlib import Path

import pytest

from loaders.hl7.decoder import Message
from loaders.hl7.rejects import Reject
from loaders.hl7.stream import decode_stream

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples" / "hl7"
FIXTURES = REPOSITORY / "tests" / "fixtures" / "hl7"
CORPUS = next(
    (
        folder
        for folder in (
            Path(os.environ.get("CDW_HL7_CORPUS", "/nonexistent")),
            REPOSITORY.parent / "shared" / "hl7",
        )
        if folder.is_dir()
    ),
    None,
)
needs_corpus = pytest.mark.skipif(
    CORPUS is None, reason="no HL7 messages from elsewhere: neither CDW_HL7_CORPUS nor ../shared/hl7 is there"
)
FOLDERS = [EXAMPLES, FIXTURES, *(sorted(f for f in CORPUS.iterdir() if f.is_dir()) if CORPUS else [])]

_NO_HL7 = {".md", ".json"}


def files(folder: Path) -> list[Path]:
    """Give a folder's HL7 files, in order."""
    return sorted(
        file for file in folder.iterdir() if file.suffix not in _NO_HL7 and not file.name.startswith(".")
    )


@cache
def results(file: Path) -> list[Message | Reject]:
    """Decode a file, once."""
    return list(decode_stream([file.read_bytes()], source="input"))
