"""What has been fetched and is not loaded yet, partition by partition."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from loaders.kafka.cluster import Key, in_words
from loaders.kafka.records import Sorter
from loaders.kafka.watch import Held
from loaders.warehouse.protocol import Batch, Partition, Position, Record, Reject

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Draft:
    """Consecutive offsets of a partition on their way into the warehouse."""

    key: Key
    partition: Partition
    first_offset: int
    next_offset: int
    rows: list[Record]
    rejects: list[Reject]

    def batch(self, previous_sha256: str | None, loaded_at: datetime) -> Batch:
        """The batch, chained to the one before."""
        records = self.rows
        if self.rejects:
            records = sorted([*self.rows, *(reject.record for reject in self.rejects)])
        values = [b"null" if record.value is None else record.value for record in records]
        digest = hashlib.sha256((previous_sha256 or "").encode())
        digest.update(b"\n".join([*values, b""]))
        return Batch(
            partition=self.partition,
            first_offset=self.first_offset,
            next_offset=self.next_offset,
            rows=self.rows,
            rejects=self.rejects,
            explained_count=self.next_offset - self.first_offset - len(records),
            byte_count=sum(map(len, values)),
            sha256=digest.hexdigest(),
            previous_sha256=previous_sha256,
            loaded_at=loaded_at,
        )

    def halves(self) -> "list[Draft]":
        """Two drafts that together are this one, which has more than one row."""
        middle = self.rows[len(self.rows) // 2].offset
        before = [record for record in self.rows if record.offset < middle]
        rejects_before = [reject for reject in self.rejects if reject.record.offset < middle]
        return [
            replace(self, next_offset=middle, rows=before, rejects=rejects_before),
            replace(
                self,
                first_offset=middle,
                rows=self.rows[len(before) :],
                rejects=self.rejects[len(rejects_before) :],
            ),
        ]

    def rejected(self, reason: str) -> "Draft":
        """The draft with its one row among the rejects."""
        (row,) = self.rows
        rejects = sorted([*self.rejects, Reject(reason, row)], key=lambda reject: reject.record.offset)
        return replace(self, rows=[], rejects=rejects)


@dataclass(slots=True)
class _Fetched:
    partition: Partition
    position: int
    sha256: str | None
    reached: int
    messages: list[Message] = field(default_factory=list)
    # Of the first record of drafts that are not loaded yet.
    first_at: float | None = None


class Pending:
    """Where each partition stands in the warehouse, and the messages fetched beyond that."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._partitions: dict[Key, _Fetched] = {}
        self.message_count = 0
        self.byte_count = 0

    def add(self, key: Key, partition: Partition, position: Position) -> None:
        """A partition is fetched from its position on."""
        offset = position.next_offset
        self._partitions[key] = _Fetched(partition, offset, position.sha256, offset)

    # What the source tells

    def message(self, key: Key, message: Message) -> None:
        """A record, in the order of its partition."""
        fetched = self._partitions.get(key)
        offset = message.offset()
        assert offset is not None
        # What another loader was given meanwhile, or what was fetched before a position changed.
        if fetched is None or offset < fetched.reached:
            return
        fetched.messages.append(message)
        fetched.reached = offset + 1
        self.message_count += 1
        self.byte_count += len(message)

    def end(self, key: Key, offset: int) -> None:
        """All before this offset has been given."""
        fetched = self._partitions.get(key)
        if fetched and offset > fetched.reached:
            fetched.reached = offset

    def revoked(self, keys: Iterable[Key]) -> None:
        """Forget partitions and what was fetched of them."""
        positions = {}
        for key in keys:
            if fetched := self._partitions.pop(key, None):
                positions[key] = fetched.position
                self.message_count -= len(fetched.messages)
                self.byte_count -= sum(map(len, fetched.messages))
        if positions:
            log.info("partitions_let_go", offsets=in_words(positions))

    # What the load asks

    @property
    def has_news(self) -> bool:
        """Whether there is anything to load, be it offsets without records."""
        return any(fetched.reached > fetched.position for fetched in self._partitions.values())

    def position(self, key: Key) -> tuple[int, str | None] | None:
        """Next offset to load and sha256 of the last batch; None where the partition is not ours."""
        fetched = self._partitions.get(key)
        return (fetched.position, fetched.sha256) if fetched else None

    def drafts(self, sorters: dict[str, Sorter]) -> list[Draft]:
        """All that was fetched, sent through the gate; after this, no messages are held.

        Raises:
            AwayError: something a gate needs is away; all is held as before.
        """
        drafts = []
        for key, fetched in self._partitions.items():
            if fetched.reached > fetched.position:
                rows, rejects = sorters[key.topic].sort(fetched.messages)
                drafts.append(Draft(key, fetched.partition, fetched.position, fetched.reached, rows, rejects))
                fetched.first_at = _first_at(fetched)
        # Only now: offsets without their messages would count as offsets that never had any.
        for fetched in self._partitions.values():
            fetched.messages = []
        self.message_count = self.byte_count = 0
        return drafts

    def loaded(self, drafts: Sequence[Draft], batches: Sequence[Batch]) -> None:
        """These drafts are in the warehouse, as these batches."""
        for draft, batch in zip(drafts, batches, strict=True):
            if fetched := self._partitions.get(draft.key):
                fetched.position, fetched.sha256 = batch.next_offset, batch.sha256
                if fetched.position >= fetched.reached:
                    fetched.first_at = None

    # What those who watch ask

    def held(self) -> dict[Key, Held]:
        """How far each partition is."""
        return {
            key: Held(fetched.position, fetched.reached, _first_at(fetched))
            for key, fetched in self._partitions.items()
        }


def _first_at(fetched: _Fetched) -> float | None:
    """Kafka's time of the first record that is not loaded, in seconds since the epoch."""
    if fetched.first_at is None and fetched.messages:
        kind, milliseconds = fetched.messages[0].timestamp()
        return None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1_000
    return fetched.first_at
