"""The load: from a source's records through the gate into raw, batch by batch."""

import gc
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from loaders.directory import Chunk, TopicDirectory, TopicFile
from loaders.errors import CdwError
from loaders.gate import Gate, is_tombstone, original
from loaders.kafka.load import KafkaLoad
from loaders.kafka.load import Observer as KafkaObserver
from loaders.kafka.positions import Start
from loaders.profile import Target, load_target
from loaders.settings import Settings, load_settings, project_dir
from loaders.topics import load_topics
from loaders.warehouse import open_warehouse
from loaders.warehouse.protocol import Batch, Partition, Record, Reject, Warehouse

_OBJECTS_A_COLLECTION = 100_000


class Observer(Protocol):
    """Someone who is told how a load goes."""

    def begin(self, sizes: Mapping[str, int]) -> None:
        """The load begins; ``sizes`` are the bytes to read by topic."""

    def loaded(self, batch: Batch) -> None:
        """A batch has been committed."""


@dataclass(slots=True)
class Loaded:
    """What a load did: rows by topic, rejects by topic and reason."""

    rows: Counter[str] = field(default_factory=Counter)
    rejects: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, batch: Batch) -> None:
        """Count one batch."""
        name = batch.partition.topic.name
        self.rows[name] += len(batch.rows)
        self.rejects.update((name, reject.reason) for reject in batch.rejects)

    def as_lines(self) -> list[str]:
        """The counts for people."""
        lines = [f"{name}: {count} rows" for name, count in self.rows.items()]
        lines += [f"{name}: {count} rejected, {reason}" for (name, reason), count in self.rejects.items()]
        return lines or ["nothing new"]


def load_kafka(
    target: str | Target | None = None,
    *,
    start: Start | None = None,
    is_once: bool = False,
    loaded_at: datetime | None = None,
    observers: Sequence[KafkaObserver] = (),
) -> Loaded:
    """Load from Kafka until SIGTERM or SIGINT, or (``is_once``) until the end of what is there now.

    Raises:
        CdwError: something that waiting does not mend; what was committed stays, and the same call goes on
            from there.
    """
    settings = load_settings()
    project = project_dir(settings)
    if target is None or isinstance(target, str):
        target = load_target(project, target)
    with open_warehouse(target) as warehouse:
        load = KafkaLoad(
            settings,
            load_topics(project),
            warehouse,
            start=start,
            is_once=is_once,
            loaded_at=utc(loaded_at) if loaded_at else None,
            observers=observers,
        )
        with _told_to_stop(load.stop), _rare_collections():
            load.run()
    return Loaded(load.rows, load.rejects)


@contextmanager
def _told_to_stop(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM and ctrl-c end what is under way, not break it off."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cycles once a batch or so, not each 700 objects: records are in none."""
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS_A_COLLECTION)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def utc(time: datetime) -> datetime:
    """A time as the warehouses keep it: UTC, without a zone."""
    return time.astimezone(UTC).replace(tzinfo=None)


def load_directory(
    directory: Path,
    target: str | Target | None = None,
    *,
    loaded_at: datetime | None = None,
    observer: Observer | None = None,
) -> Loaded:
    """Load a topic directory into a target (its name, the target itself, or None for the default one).

    ``loaded_at`` (with a zone) fixes the arrival time, which else is the time of the batch.

    Raises:
        CdwError: the directory, the settings or the warehouse do not allow it; batches that were committed
            before stay, and the same call goes on from there.
    """
    settings = load_settings()
    project = project_dir(settings)
    topics = load_topics(project)
    if target is None or isinstance(target, str):
        target = load_target(project, target)
    with (
        TopicDirectory(directory, topics) as source,
        open_warehouse(target) as warehouse,
        _rare_collections(),
    ):
        return load(source, warehouse, settings, loaded_at=loaded_at, observer=observer)


def load(
    source: TopicDirectory,
    warehouse: Warehouse,
    settings: Settings,
    *,
    loaded_at: datetime | None = None,
    observer: Observer | None = None,
) -> Loaded:
    """Load all that a source has; see ``load_directory``."""
    warehouse.prepare(list(source.topics.values()))
    positions = {row.topic: row.next_offset for row in warehouse.positions(source.cluster)}
    for partition, path in source.missing():
        if positions.get(partition.topic.name):
            raise CdwError(
                f"{path.name} was loaded before and is gone; nothing was loaded",
                where=str(path),
                do="topic files only grow: restore the file, or put new records into another directory",
            )
    # All files before any: a file that changed must not leave the others half a load ahead of it.
    for file in source.files:
        file.skip_loaded(positions.get(file.partition.topic.name, 0), warehouse.loaded(file.partition))
    if observer:
        observer.begin({file.partition.topic.name: file.unread_bytes for file in source.files})
    loaded = Loaded()
    for file in source.files:
        for batch in _batches(file, settings, loaded_at):
            warehouse.load([batch])
            loaded.add(batch)
            if observer:
                observer.loaded(batch)
    return loaded


def _batches(file: TopicFile, settings: Settings, loaded_at: datetime | None) -> Iterator[Batch]:
    gate = Gate(file.partition.topic, settings.max_record_bytes)
    for chunk in file.chunks(settings.batch_records, settings.batch_bytes):
        yield _batch(file.partition, chunk, gate, utc(loaded_at or datetime.now(UTC)))


def _batch(partition: Partition, chunk: Chunk, gate: Gate, loaded_at: datetime) -> Batch:
    """Send the records of a chunk through the gate."""
    rows: list[Record] = []
    rejects: list[Reject] = []
    for offset, value in enumerate(chunk.records, chunk.first_offset):
        reason = gate.check(value)
        if reason:
            rejects.append(Reject(reason, Record(offset, value)))
        elif is_tombstone(value):
            rows.append(Record(offset, None))
        elif partition.topic.is_restricted:
            rows.append(Record(offset, original(value)))
        else:
            rows.append(Record(offset, value))
    return Batch(
        partition=partition,
        first_offset=chunk.first_offset,
        next_offset=chunk.first_offset + len(chunk.records),
        rows=rows,
        rejects=rejects,
        explained_count=0,
        byte_count=chunk.byte_count,
        sha256=chunk.sha256,
        previous_sha256=chunk.previous_sha256,
        loaded_at=loaded_at,
    )
