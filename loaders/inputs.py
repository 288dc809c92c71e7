"""The HL7 v2 files that ``cdw decode`` and ``cdw ingest`` read, and what they tell of a reject."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loaders.errors import CdwError
from loaders.hl7.decoder import Message
from loaders.hl7.rejects import Reject
from loaders.hl7.stream import Options
from loaders.settings import load_settings

STDIN = "-"
_CHUNK_BYTES = 1 << 20


@dataclass
class Counts:
    """What came out of the files."""

    messages: int = 0
    rejects: int = 0

    def add(self, result: Message | Reject) -> None:
        """Count one, and tell of it where it is a reject."""
        if isinstance(result, Message):
            self.messages += 1
        else:
            self.rejects += 1
            tell(result)

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.messages} messages decoded, {self.rejects} rejected"


def options_of(name: str) -> Options:
    """How to decode the input of a name."""
    settings = load_settings()
    source = "stdin" if name == STDIN else "".join(c if c.isprintable() else "?" for c in Path(name).name)
    return Options(source, settings.hl7_fallback_charset, settings.max_record_bytes)


def read_chunks(name: str) -> Iterator[bytes]:
    """Read a file, or standard input.

    Raises:
        CdwError: it cannot be read.
    """
    try:
        with (
            os.fdopen(sys.stdin.fileno(), "rb", closefd=False)
            if name == STDIN
            else Path(name).open("rb") as file
        ):
            yield from iter(lambda: file.read1(_CHUNK_BYTES), b"")  # of a pipe, what there is
    except OSError as error:
        raise _unreadable(name, error) from None


def check_readable(files: list[str]) -> None:
    """Fail before anything is written, not half-way through the files.

    Raises:
        CdwError: one of them cannot be read.
    """
    for name in files:
        if name != STDIN and not Path(name).is_fifo():  # opened twice, that would lose what is in it
            try:
                with Path(name).open("rb"):
                    pass
            except OSError as error:
                raise _unreadable(name, error) from None


def tell(reject: Reject) -> None:
    """Say on stderr where and why something was rejected."""
    sys.stderr.write(
        f"{reject['source']}: {reject['code']} position {reject['position']} "
        f"byte {reject['byte_offset']} sha256 {reject['sha256']}\n"
    )


def _unreadable(name: str, error: OSError) -> CdwError:
    return CdwError(
        f"an input file cannot be read ({error.strerror})",
        where=name,
        do="check its name and permissions; for standard input write -",
    )
