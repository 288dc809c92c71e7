"""``cdw ingest``: has ``loaders.hl7`` decode files, and publishes what comes out."""

import base64
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TypedDict

import msgspec

from loaders.errors import CdwError
from loaders.hl7.publish import HL7_TOPICS, ORIGINALS, Publication, publish_place
from loaders.hl7.stream import places
from loaders.inputs import Counts, check_readable, options_of, read_chunks
from loaders.kafka.outgoing import Outgoing
from loaders.kafka.producer import Outbox
from loaders.kafka.topics import ensure_topics
from loaders.settings import Settings


class Original(TypedDict):
    """A line of ``hl7.originals`` in a topic directory: bytes as they came, in base64."""

    sha256: str
    bytes: str


def ingest_to_directory(files: list[str], directory: Path) -> Counts:
    """Decode files and append what a sender would have published to a topic directory.

    Only whole lines are appended, and nothing that is there changes: the offset of a line is for good.
    The same file again gives the same lines again; models know the same bytes by their sha256.

    Args:
        files: names of files, or "-" for standard input.
        directory: is made where it is missing, readable by its owner alone.

    Raises:
        CdwError: a file cannot be read, or the directory not be written.
    """
    check_readable(files)
    counts = Counts()
    with topic_files(directory, HL7_TOPICS) as put:
        for publication in _publications(files):
            counts.add(publication.result)
            put(publication.records)
    return counts


@contextmanager
def topic_files(directory: Path, topics: Sequence[str]) -> Iterator[Callable[[Sequence[Outgoing]], None]]:
    """Open a topic directory to append records of these topics, whole lines only.

    Raises:
        CdwError: the directory cannot be written, or another program is appending to it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            files = {topic: stack.enter_context(_append_to(directory / f"{topic}.jsonl")) for topic in topics}

            def put(records: Sequence[Outgoing]) -> None:
                for record in records:
                    files[record.topic].write(_line(record))

            yield put
    except OSError as error:
        raise CdwError(
            f"the topic directory cannot be written ({error.strerror})",
            where=str(directory),
            do="make room or mend its permissions, then run the command again: repeated messages are known",
        ) from None


def ingest_to_kafka(files: list[str], settings: Settings) -> Counts:
    """Decode files and publish what comes out; the same file again is known by the sha256 of its messages.

    Args:
        files: names of files, or "-" for standard input.
        settings: Kafka and limits.

    Raises:
        CdwError: a file cannot be read, or Kafka has not acknowledged everything.
    """
    check_readable(files)
    ensure_topics(settings, HL7_TOPICS)
    counts = Counts()
    with Outbox(settings) as outbox:
        for publication in _publications(files):
            outbox.put(publication.records)
            counts.add(publication.result)
    return counts


def _publications(files: list[str]) -> Iterator[Publication]:
    for name in files:
        options = options_of(name)
        for place in places(read_chunks(name), options):
            yield publish_place(place, options)


def _line(record: Outgoing) -> bytes:
    """A record as a line of its topic's file."""
    value = record.value or b"null"
    if record.topic == ORIGINALS:
        value = msgspec.json.encode(Original(sha256=record.key, bytes=base64.b64encode(value).decode()))
    return value + b"\n"


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
