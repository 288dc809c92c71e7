"""Topic directories: ``DIR/<topic>.jsonl``, one JSON value a line, the embedded stand-in for Kafka.

Partition 0, offset = line number from 0, ``null`` is a tombstone. Two directories are two sources: cluster
and topic id come from the absolute path.
"""

import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from loaders.errors import CdwError
from loaders.topics import Topic
from loaders.warehouse.protocol import LoadedBatch, Partition

SUFFIX = ".jsonl"
# A reject keeps its bytes, and on its way stands in memory about five times; Postgres could take up to
# 500 MB (a row of 1 GB at most, as hex). A longer line than this is no record but a broken file.
MAX_LINE_BYTES = 128_000_000
_CHUNK = 1 << 20


class Chunk(NamedTuple):
    """Consecutive records without their newlines; bytes and chained sha256 count these too."""

    first_offset: int
    records: list[bytes]
    byte_count: int
    sha256: str
    previous_sha256: str | None


def _chain(previous: str | None) -> "hashlib._Hash":
    """A hash that begins with the one before (its hex digits; nothing for the first batch)."""
    return hashlib.sha256((previous or "").encode())


@dataclass(slots=True)
class TopicFile:
    """One topic's file, read from where the warehouse stands."""

    partition: Partition
    path: Path
    file: BinaryIO
    offset: int = 0
    head: str | None = None

    @property
    def unread_bytes(self) -> int:
        """How much there is to read now."""
        return os.fstat(self.file.fileno()).st_size - self.file.tell()

    def skip_loaded(self, position: int, batches: Sequence[LoadedBatch]) -> None:
        """Read again what has been loaded, compare it with the batches' hashes and stop at its end.

        Raises:
            CdwError: the file is shorter than what was loaded from it, or its bytes are others, or the
                warehouse's batches do not add up to its position.
        """
        for batch in batches:
            if (batch.first_offset, batch.previous_sha256) != (self.offset, self.head):
                raise self._batches_broken()
            digest = _chain(self.head)
            left = batch.byte_count
            while left:
                data = self.file.read(min(left, _CHUNK))
                if not data:
                    raise self._changed("shrank: it is shorter than what was loaded from it")
                digest.update(data)
                left -= len(data)
            if digest.hexdigest() != batch.sha256:
                raise self._changed(
                    f"changed underneath: offsets {batch.first_offset} to {batch.next_offset - 1} "
                    "are not what was loaded"
                )
            self.offset, self.head = batch.next_offset, batch.sha256
        if self.offset != position:
            raise self._batches_broken()

    def chunks(self, max_records: int, max_bytes: int) -> Iterator[Chunk]:
        """The records not loaded yet, up to the last complete line there is now.

        Raises:
            CdwError: a line is longer than any warehouse can hold.
        """
        is_more = True
        while is_more:
            records: list[bytes] = []
            count, digest = 0, _chain(self.head)
            while is_more and len(records) < max_records and count < max_bytes:
                line = self.file.readline(MAX_LINE_BYTES + 1)
                # A line without its end waits: its writer is not done with it.
                is_more = line.endswith(b"\n")
                if is_more:
                    digest.update(line)
                    count += len(line)
                    records.append(line[:-1])
                elif len(line) > MAX_LINE_BYTES:
                    raise CdwError(
                        f"a line is longer than {MAX_LINE_BYTES} bytes",
                        where=f"{self.path}, offset {self.offset + len(records)}",
                        do="see what wrote it: this is no record",
                    )
            if records:
                previous, self.head = self.head, digest.hexdigest()
                first, self.offset = self.offset, self.offset + len(records)
                yield Chunk(first, records, count, self.head, previous)

    def _changed(self, how: str) -> CdwError:
        return CdwError(
            f"{self.path.name} {how}; nothing was loaded",
            where=str(self.path),
            do="topic files only grow: restore the file, or put new records into another directory",
        )

    def _batches_broken(self) -> CdwError:
        return CdwError(
            f"the warehouse's batches of {self.partition.words} do not add up; nothing was loaded",
            where=f"raw.load_batches near offset {self.offset}",
            do="restore the warehouse from a backup: rows of raw.load_batches are missing or were changed",
        )


class TopicDirectory:
    """An open topic directory: all its topic files, to be used in a ``with``."""

    def __init__(self, directory: Path, topics: Mapping[str, Topic]) -> None:
        """Open every topic file of a directory.

        Raises:
            CdwError: there is no such directory, it has no topic file or an unknown
                one, or one cannot be read.
        """
        self.path = directory.resolve()
        self.cluster = "dir:" + hashlib.sha256(str(self.path).encode()).hexdigest()[:32]
        self.topics = topics
        names = _topic_names(self.path, topics)
        with ExitStack() as stack:
            self.files = [self._open(name, stack) for name in names]
            self._stack = stack.pop_all()

    def partition(self, topic: Topic) -> Partition:
        """The one partition of a topic in this directory."""
        topic_id = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.cluster}/{topic.name}")
        return Partition(self.cluster, topic, str(topic_id), 0)

    def missing(self) -> list[tuple[Partition, Path]]:
        """The topics that have no file here (they may have had one)."""
        present = {file.partition.topic.name for file in self.files}
        return [
            (self.partition(topic), self.path / f"{topic.name}{SUFFIX}")
            for topic in self.topics.values()
            if topic.name not in present
        ]

    def _open(self, name: str, stack: ExitStack) -> TopicFile:
        path = self.path / f"{name}{SUFFIX}"
        try:
            file = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise _unreadable(path, error) from None
        return TopicFile(self.partition(self.topics[name]), path, file)

    def __enter__(self) -> Self:
        """Nothing to do: the files are open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self._stack.close()


def _unreadable(path: Path, error: OSError) -> CdwError:
    return CdwError(
        f"{path.name} cannot be read ({type(error).__name__})",
        where=str(path),
        do="see that it is a file or folder of that kind which you may read",
    )


def _topic_names(directory: Path, topics: Mapping[str, Topic]) -> list[str]:
    """The topics with a file, in the order of the configuration."""
    known = f"known topics: {', '.join(topics)}"
    if not directory.exists():
        raise CdwError(
            "no such directory", where=str(directory), do="name a directory with topic files (--from)"
        )
    if not directory.is_dir():
        raise CdwError(
            "this is a file, not a directory of topic files",
            where=str(directory),
            do=f"name the directory that holds <topic>{SUFFIX} files (--from)",
        )
    try:
        found = {path.name.removesuffix(SUFFIX) for path in directory.iterdir() if path.name.endswith(SUFFIX)}
        is_empty = not found and next(directory.iterdir(), None) is None
    except OSError as error:
        raise _unreadable(directory, error) from None
    unknown = sorted(found - topics.keys())
    if unknown:
        raise CdwError(
            f"unknown topic file: {', '.join(name + SUFFIX for name in unknown)}; nothing was loaded",
            where=str(directory),
            do=f"rename or remove it, or give the topic a table in vars.topics of dbt_project.yml; {known}",
        )
    if not found:
        raise CdwError(
            "the directory is empty" if is_empty else "the directory has no topic file",
            where=str(directory),
            do=f"put <topic>{SUFFIX} files there, for instance with cdw simulate; {known}",
        )
    return [name for name in topics if name in found]
