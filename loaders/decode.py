"""``cdw decode`` and ``cdw ingest``: reads files, has ``loaders.hl7`` decode them, writes what comes out."""

import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from loaders.errors import CdwError
from loaders.hl7.decoder import Message
from loaders.hl7.names import with_long_names
from loaders.hl7.publish import publish_message, publish_reject
from loaders.hl7.rejects import Reject
from loaders.hl7.stream import Options, Place, decode_place, places
from loaders.hl7.validate import findings
from loaders.parallel import write_in_order
from loaders.settings import load_settings

STDIN = "-"
MESSAGES, ORIGINALS, REJECTED = "hl7.messages", "hl7.originals", "hl7.rejected"

_CHUNK_BYTES = 1 << 20
_BATCH_BYTES = 1 << 21
_to_json = msgspec.json.Encoder().encode


@dataclass
class Counts:
    """What came out of the files."""

    messages: int = 0
    rejects: int = 0

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.messages} messages decoded, {self.rejects} rejected"


class Form(NamedTuple):
    """How ``cdw decode`` writes a message."""

    names: bool = False
    """As nested long names instead of segments, fields and components by number."""
    validate: bool = False
    """With hl7apy's findings among the warnings."""


_AS_RECORDS = Form()


def decode_files(
    files: list[str],
    *,
    out: BinaryIO,
    rejects: Path | None = None,
    form: Form = _AS_RECORDS,
    workers: int = 1,
) -> Counts:
    """Write a record a line to ``out`` and a reject a line to the file ``rejects``, if one is named.

    Args:
        files: names of files, or "-" for standard input.
        out: takes the records, in the order of the input.
        rejects: is made anew, readable by its owner alone.
        form: how records are written.
        workers: processes that decode side by side; the order stays.

    Raises:
        CdwError: a file cannot be read, or what comes out not be written.
    """
    _check_readable(files)
    counts = Counts()
    try:
        with _open_rejects(rejects, files) if rejects else nullcontext() as reject_file:
            function = partial(_decode_batch, form=form)
            for messages, rejected in write_in_order(function, _batches(files), out, workers):
                counts.messages += messages
                counts.rejects += len(rejected)
                for reject in rejected:
                    _tell(reject)
                    if reject_file:
                        reject_file.write(_line(reject))
    except OSError as error:
        raise CdwError(
            f"the output cannot be written ({error.strerror})",
            where=f"standard output or {rejects}" if rejects else "standard output",
            do="check the folder, its permissions and its space, and what reads the records",
        ) from None
    return counts


def ingest_files(files: list[str], directory: Path) -> Counts:
    """Decode files and append what a sender would have published to a topic directory.

    Only whole lines are appended, and nothing that is there changes: the offset of a line is for good.
    The same file again gives the same lines again; models know the same bytes by their sha256.

    Args:
        files: names of files, or "-" for standard input.
        directory: is made where it is missing, readable by its owner alone.

    Raises:
        CdwError: a file cannot be read, or the directory not be written.
    """
    _check_readable(files)
    counts = Counts()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            originals, messages, rejected = (
                stack.enter_context(_append_to(directory / f"{topic}.jsonl"))
                for topic in (ORIGINALS, MESSAGES, REJECTED)
            )
            for result in _decode(files):
                if isinstance(result, Message):
                    counts.messages += 1
                    message, original = publish_message(result)
                    originals.write(_line(original))
                    messages.write(_line(message))
                else:
                    counts.rejects += 1
                    _tell(result)
                    reject, long_original = publish_reject(result)
                    if long_original:
                        originals.write(_line(long_original))
                    rejected.write(_line(reject))
    except OSError as error:
        raise CdwError(
            f"the topic directory cannot be written ({error.strerror})",
            where=str(directory),
            do="make room or mend its permissions, then run the command again: repeated messages are known",
        ) from None
    return counts


def _decode(files: list[str]) -> Iterator[Message | Reject]:
    for name in files:
        options = _options(name)
        for place in places(_read(name), options):
            yield decode_place(place, options)


class _Batch(NamedTuple):
    options: Options
    places: list[Place]


def _batches(files: list[str]) -> Iterator[_Batch]:
    for name in files:
        batch, size = _Batch(_options(name), []), 0
        for place in places(_read(name), batch.options):
            batch.places.append(place)
            size += len(place.data)
            if size > _BATCH_BYTES:
                yield batch
                batch, size = _Batch(batch.options, []), 0
        yield batch


def _decode_batch(batch: _Batch, form: Form) -> tuple[bytes, tuple[int, list[Reject]]]:
    """Give the lines of the records, their number, and the rejects."""
    records: list[bytes] = []
    rejects: list[Reject] = []
    for place in batch.places:
        result = decode_place(place, batch.options)
        if isinstance(result, Message):
            records.append(_line(_formed(result, form)))
        else:
            rejects.append(result)
    return b"".join(records), (len(records), rejects)


def _formed(message: Message, form: Form) -> object:
    if form.validate:
        message.meta["warnings"] += findings(message.er7, message.meta["dictionary"])
    if form.names:
        return with_long_names(message.record)
    return {"meta": message.meta, "segments": msgspec.Raw(message.segments.encode()), "er7": message.er7}


def _options(name: str) -> Options:
    settings = load_settings()
    source = "stdin" if name == STDIN else "".join(c if c.isprintable() else "?" for c in Path(name).name)
    return Options(source, settings.hl7_fallback_charset, settings.max_record_bytes)


def _read(name: str) -> Iterator[bytes]:
    try:
        if name == STDIN:
            yield from iter(lambda: sys.stdin.buffer.read(_CHUNK_BYTES), b"")
        else:
            with Path(name).open("rb") as file:
                yield from iter(lambda: file.read(_CHUNK_BYTES), b"")
    except OSError as error:
        raise _unreadable(name, error) from None


def _check_readable(files: list[str]) -> None:
    """Fail before anything is written, not half-way through the files."""
    for name in files:
        if name != STDIN and not Path(name).is_fifo():  # opened twice, that would lose what is in it
            try:
                with Path(name).open("rb"):
                    pass
            except OSError as error:
                raise _unreadable(name, error) from None


def _unreadable(name: str, error: OSError) -> CdwError:
    return CdwError(
        f"an input file cannot be read ({error.strerror})",
        where=name,
        do="check its name and permissions; for standard input write -",
    )


def _open_rejects(path: Path, files: list[str]) -> BinaryIO:
    if path.exists() and any(name != STDIN and path.samefile(name) for name in files):
        raise CdwError(
            "the reject file is one of the input files", where=str(path), do="name another file for --rejects"
        )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # a device's mode is not ours to change
        os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


@contextmanager
def _append_to(path: Path) -> Iterator[BinaryIO]:
    """Open a topic's file to append whole lines; on disk for good when the block is left."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        os.fchmod(descriptor, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CdwError(
                "another program is appending to this topic directory",
                where=str(path),
                do="wait until it is done, then run the command again",
            ) from None
        _end_torn_line(file)
        yield file
        file.flush()
        os.fsync(descriptor)


def _end_torn_line(file: BinaryIO) -> None:
    """End the line that a killed program left unfinished: it costs one reject in the loader, nothing else."""
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _tell(reject: Reject) -> None:
    sys.stderr.write(
        f"{reject['source']}: {reject['code']} position {reject['position']} "
        f"byte {reject['byte_offset']} sha256 {reject['sha256']}\n"
    )


def _line(value: object) -> bytes:
    return _to_json(value) + b"\n"
