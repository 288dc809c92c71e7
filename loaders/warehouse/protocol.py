"""What every warehouse does for the loader, and what is handed to it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Self

from loaders.topics import Topic
from loaders.warehouse.statements import Statements

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of one topic of one source: where offsets count."""

    cluster: str
    topic: Topic
    topic_id: str
    number: int

    @property
    def words(self) -> str:
        """The partition in words for messages."""
        return f"topic {self.topic.name}, partition {self.number}"


class Record(NamedTuple):
    """One record: its offset, its value (None is a tombstone) and what Kafka adds to it.

    ``timestamp`` is UTC without a zone; ``headers`` is JSON. ``key_bytes`` is a key that is no text.
    """

    offset: int
    value: bytes | None
    timestamp: datetime | None = None
    timestamp_type: str | None = None
    key: str | None = None
    headers: str | None = None
    key_bytes: bytes | None = None


class Reject(NamedTuple):
    """A record that did not pass the gate, and the reason's code."""

    reason: str
    record: Record


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of one partition from ``first_offset`` to ``next_offset``.

    ``explained_count`` is how many of these offsets never were a record (control records and the like), or
    are passed over on purpose (``kind`` is ``skip``); ``sha256`` (hex) is over ``previous_sha256`` (hex,
    nothing for the first batch) and each value with a newline after it (``null`` for a tombstone).
    ``loaded_at`` is UTC without a zone.
    """

    partition: Partition
    first_offset: int
    next_offset: int
    rows: Sequence[Record]
    rejects: Sequence[Reject]
    explained_count: int
    byte_count: int
    sha256: str
    previous_sha256: str | None
    loaded_at: datetime
    kind: Literal["load", "skip"] = "load"


class Position(NamedTuple):
    """A row of ``raw.load_positions``: where a partition stands; ``sha256`` is its last batch's, if any."""

    topic: str
    topic_id: str
    partition: int
    next_offset: int
    sha256: str | None


class LoadedBatch(NamedTuple):
    """A row of ``raw.load_batches``, as far as the source needs it to check what it had given."""

    first_offset: int
    next_offset: int
    byte_count: int
    sha256: str
    previous_sha256: str | None


class Warehouse(Protocol):
    """A warehouse that takes batches, each in one transaction."""

    @property
    def where(self) -> str:
        """The warehouse in words for messages."""

    def prepare(self, topics: Sequence[Topic]) -> None:
        """Create what is missing of the raw layout.

        Raises:
            CdwError: the layout is another version's, a table has other columns, or the rights are missing.
        """

    @property
    def warehouse_id(self) -> str:
        """What tells this warehouse from others; known once the layout is there."""

    def positions(self, cluster: str) -> list[Position]:
        """Where the partitions of a cluster stand."""

    def begin(self, starts: Sequence[tuple[Partition, int]]) -> None:
        """Give partitions their first position, unless they have one."""

    def loaded(self, partition: Partition) -> list[LoadedBatch]:
        """The batches of a partition, by first offset."""

    def load(self, batches: Sequence[Batch]) -> None:
        """Move the positions, insert rows, rejects and the batches' own rows: all or nothing.

        Raises:
            FencedError: another loader has moved a position.
            DataError: a record cannot be taken, whoever tries.
            AwayError: nothing can be taken for now; whether a commit has gone through before is not known.
            CdwError: anything else.
        """

    def rows(self, sql: str) -> list[Row]:
        """The result of a query of ours, which holds no value from a record."""

    def has_layout(self) -> bool:
        """Whether a loader has been here."""

    def maintenance(self) -> AbstractContextManager[Statements]:
        """One transaction that changes rows which are there: all or nothing, as of its start, one at a time.

        Raises:
            AwayError: another one is under way; the message says whose.
        """

    def __enter__(self) -> Self:
        """Nothing to do: it is open."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
