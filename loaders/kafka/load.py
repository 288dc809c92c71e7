"""The load from Kafka: fetch, gate, one transaction with the positions, again and again.

Exactly once rests on the warehouse alone: a batch moves its partition's position from where its first record
stands, in the transaction that inserts its rows, or it is not loaded. Whatever happens on the way (a crash, a
lost answer, another loader), the next step begins with the positions in the warehouse.
"""

import time
from collections import Counter, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from loaders.errors import AwayError, CdwError, DataError, FencedError
from loaders.kafka.cluster import KafkaCluster, Key, in_words
from loaders.kafka.patience import Patience, StoppedError
from loaders.kafka.pending import Draft, Pending
from loaders.kafka.positions import Found, Start, current, find_places, first_offset, kafka_id
from loaders.kafka.records import Sorter, open_avro
from loaders.kafka.source import KafkaSource
from loaders.kafka.watch import View, Watch
from loaders.settings import Settings
from loaders.topics import Topic
from loaders.warehouse.protocol import Batch, Partition, Warehouse

log = structlog.get_logger()

# `--once` runs in scripts: there, what stays away is a failure.
_LIMIT_ONCE = 60.0
_POLL_SECONDS = 0.1
# With nothing to load for so long, Kafka is asked whether it is there.
_QUIET_SECONDS = 10.0
_VIEW_SECONDS = 1.0


class Observer:
    """Someone who is told how a load goes, in the thread that loads."""

    def waiting(self, error: AwayError) -> None:
        """Nothing goes on until this is mended."""

    def resumed(self) -> None:
        """It is mended."""

    def committed(self, batches: Sequence[Batch], seconds: float | None) -> None:
        """A transaction has been committed; ``seconds`` is None where its answer was lost."""

    def seen(self, view: View) -> None:
        """How far the load is, about once a second as long as its thread is not held up."""


class _Goal(NamedTuple):
    """Where a partition ended when the load began."""

    topic_id: str
    offset: int


class KafkaLoad:
    """One loader: one consumer, one warehouse connection."""

    def __init__(  # noqa: PLR0913 - what a loader is made of
        self,
        settings: Settings,
        topics: dict[str, Topic],
        warehouse: Warehouse,
        *,
        start: Start | None = None,
        is_once: bool = False,
        loaded_at: datetime | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """``start``: where to begin when nothing was loaded from this Kafka yet; ``loaded_at`` is UTC."""
        self._settings = settings
        self._topics = topics
        self._warehouse = warehouse
        self._start: Start | None = start
        self._is_once = is_once
        self._loaded_at = loaded_at
        self._observers = observers
        self._patience = Patience(observers, _LIMIT_ONCE if is_once else None)
        avro = open_avro(settings)
        self._sorters = {
            name: Sorter(topic, settings.max_record_bytes, avro) for name, topic in topics.items()
        }
        self._pending = Pending()
        self._watch = Watch(time.time())
        self._viewed_at = 0.0
        self._goals: dict[Key, _Goal] = {}
        self._refused: set[tuple[Key, int]] = set()
        self._busy_at = time.monotonic()
        self._kafka = KafkaCluster(settings)
        self._source: KafkaSource
        self._cluster: str
        self.rows: Counter[str] = Counter()
        self.rejects: Counter[tuple[str, str]] = Counter()

    def stop(self) -> None:
        """Stop after the transaction that is under way; may be called from a signal handler."""
        self._patience.is_stopping = True

    def run(self) -> None:
        """Load until stopped, or (``is_once``) until all is loaded that was there at the beginning.

        Raises:
            CdwError: something that waiting does not mend, or (``is_once``) stopped before its end; what was
                committed stays.
        """
        is_done = False
        try:
            self._patience.until_done(lambda: self._warehouse.prepare(list(self._topics.values())))
            warehouse_id = self._patience.until_done(lambda: self._warehouse.warehouse_id)
            group = f"{self._settings.kafka_group}-{warehouse_id[:12]}"
            self._source = KafkaSource(self._settings, list(self._topics), group, self._pending)
            try:
                self._patience.idle = self._idle
                self._cluster = self._patience.until_done(self._kafka.cluster_id)
                self._say_where(group)
                if self._is_once:
                    self._goals = self._patience.until_done(self._find_goals)
                while not self._patience.is_stopping and not is_done:
                    self._step()
                    is_done = self._is_done()
            finally:
                self._source.close()
        except StoppedError:
            pass
        finally:
            log.info("stopped", rows=self.rows.total(), rejects=self.rejects.total())
        if self._is_once and not is_done:
            raise CdwError(
                "told to stop before the end of what there was",
                where=self._kafka.where,
                do="run the same command again: it goes on from there",
            )

    def _say_where(self, group: str) -> None:
        there = self._patience.until_done(lambda: self._kafka.topics(self._topics))
        log.info(
            "started",
            warehouse=self._warehouse.where,
            kafka=self._kafka.where,
            cluster=self._cluster,
            group=group,
            topics=sorted(there),
        )
        if missing := self._topics.keys() - there:
            self._source.missing |= missing
            log.warning("topics_missing", topics=sorted(missing))

    def _step(self) -> None:
        if self._source.out_of_range:
            self._look_again(self._source.out_of_range)
        if self._source.unplaced:
            self._patience.until_done(self._place)
        self._collect()
        if self._pending.has_news:
            # What is known must say what waits while this thread waits for the warehouse.
            self._tell(is_due=True)
            self._load(self._patience.until_done(lambda: self._pending.drafts(self._sorters)))
            self._busy_at = time.monotonic()
        elif time.monotonic() - self._busy_at > _QUIET_SECONDS:
            # Nothing to load, or nobody there to load from: only an answer tells.
            self._patience.until_done(self._kafka.cluster_id)
            self._busy_at = time.monotonic()

    def _look_again(self, keys: set[Key]) -> None:
        """Compare with what Kafka has, once more, the positions that it does not accept."""
        for key in keys:
            if position := self._pending.position(key):
                if (key, position[0]) in self._refused:
                    raise CdwError(
                        f"Kafka refuses offset {position[0]} of topic {key.topic}, partition {key.number}, "
                        "though it lies within what it has: its log was cut short and has grown again",
                        where=self._kafka.where,
                        do="see what became of the brokers (an unclean leader election?); "
                        f"cdw seek {key.topic} --partition {key.number} --to OFFSET goes on from there",
                    )
                self._refused.add((key, position[0]))
                log.warning("offset_refused", topic=key.topic, partition=key.number, offset=position[0])
        self._source.rewind(keys)
        keys.clear()

    # The end

    def _find_goals(self) -> dict[Key, _Goal]:
        """Where the partitions end that hold anything."""
        topics = self._kafka.topics(self._topics)
        keys = [Key(name, number) for name, topic in topics.items() for number in topic.partitions]
        return {
            key: _Goal(topics[key.topic].topic_id, ends.high)
            for key, ends in self._kafka.ends(keys).items()
            if ends.high > ends.low
        }

    def _is_done(self) -> bool:
        if not self._is_once or not self._source.is_assigned or self._source.unplaced:
            return False
        others = dict(self._goals)
        for key in self._source.placed:
            position, goal = self._pending.position(key), others.pop(key, None)
            if position is None or (goal and position[0] < goal.offset):
                return False
        # What the group has given to another loader: that one loads it, or ends and leaves it to us.
        if not others:
            return True
        stored = self._patience.until_done(lambda: self._warehouse.positions(self._cluster))
        return all(
            (row := current(stored, key, goal.topic_id)) is not None and row.next_offset >= goal.offset
            for key, goal in others.items()
        )

    # Where to begin

    def _place(self) -> None:
        """Give the partitions that are new to us their positions."""
        keys = set(self._source.unplaced)
        topics = self._kafka.topics({key.topic for key in keys})
        keys = {key for key in keys if key.topic in topics}
        ends = self._kafka.ends(keys)
        stored = self._warehouse.positions(self._cluster)
        if not stored:
            self._begin()
            stored = self._warehouse.positions(self._cluster)
        found = find_places(
            {key: Found(self._topics[key.topic], topics[key.topic].topic_id, ends[key]) for key in keys},
            self._cluster,
            stored,
            self._where,
        )
        self._warehouse.begin(
            [(partition, position.next_offset) for partition, position, is_new in found.values() if is_new]
        )
        for key, (partition, position, _) in found.items():
            self._pending.add(key, partition, position)
        offsets = {key: position.next_offset for key, (_, position, _) in found.items()}
        self._source.place(offsets)
        if offsets:
            log.info("partitions_placed", offsets=in_words(offsets))

    def _begin(self) -> None:
        """Give all partitions their first positions at one moment, whoever is to load them."""
        topics = self._kafka.topics(self._topics)
        keys = [Key(name, number) for name, topic in topics.items() for number in topic.partitions]
        self._warehouse.begin(
            [
                (
                    Partition(self._cluster, self._topics[key.topic], topics[key.topic].topic_id, key.number),
                    first_offset(ends, self._start, self._where),
                )
                for key, ends in sorted(self._kafka.ends(keys).items())
            ]
        )

    @property
    def _where(self) -> str:
        return f"{self._warehouse.where}; {self._kafka.where}"

    # Fetching

    def _collect(self) -> None:
        """Fetch until a batch is full, or its first record has waited long enough."""
        self._source.resume()
        until = None
        while not self._patience.is_stopping:
            self._source.poll(_POLL_SECONDS)
            self._tell()
            if self._source.unplaced or self._source.out_of_range:
                return
            if (
                self._pending.message_count >= self._settings.batch_records
                or self._pending.byte_count >= self._settings.batch_bytes
            ):
                return
            if not self._pending.has_news:
                return
            now = time.monotonic()
            until = until or now + self._settings.batch_seconds
            if now >= until:
                return

    def _idle(self, seconds: float) -> None:
        self._source.idle(seconds)
        self._tell()

    def _tell(self, *, is_due: bool = False) -> None:
        """Let the observers know how far this is, from time to time."""
        now = time.time()
        if is_due or abs(now - self._viewed_at) >= _VIEW_SECONDS:
            self._viewed_at = now
            if self._source.statistics:
                self._watch.hear(self._source.statistics)
            view = self._watch.view(self._pending.held(), self._source.unplaced, now)
            for observer in self._observers:
                observer.seen(view)

    # Loading

    def _load(self, drafts: list[Draft]) -> None:
        self._leave_out_other_topics(drafts)
        work = deque([drafts])
        while work:
            group = [draft for draft in work.popleft() if self._is_next(draft)]
            if not group:
                continue
            batches = self._batches(group)
            begun = time.monotonic()
            try:
                self._warehouse.load(batches)
            except DataError as error:
                work.extendleft(reversed(_narrowed(group, error)))
            except FencedError as error:
                log.warning("fenced", what=error.what, where=error.where)
                self._source.rewind([draft.key for draft in group])
            except AwayError as error:
                self._after_a_failure(group, batches, error)
                work.appendleft(group)
            else:
                self._patience.succeeded()
                self._note(group, batches, time.monotonic() - begun)
            if self._patience.is_stopping:
                return

    def _leave_out_other_topics(self, drafts: list[Draft]) -> None:
        """Let go of what may be another topic's by now: ids are asked for after the records were fetched.

        A topic that is gone altogether gave these records before.
        """
        names = {draft.key.topic for draft in drafts}
        topics = self._patience.until_done(lambda: self._kafka.topics(names))
        others = [
            draft.key
            for draft in drafts
            if (topic := topics.get(draft.key.topic)) and topic.topic_id != kafka_id(draft.partition.topic_id)
        ]
        if others:
            self._source.rewind(others)

    def _is_next(self, draft: Draft) -> bool:
        position = self._pending.position(draft.key)
        return position is not None and position[0] == draft.first_offset

    def _batches(self, group: Sequence[Draft]) -> list[Batch]:
        loaded_at = self._loaded_at or datetime.now(UTC).replace(tzinfo=None)
        batches = []
        for draft in group:
            position = self._pending.position(draft.key)
            assert position
            batches.append(draft.batch(position[1], loaded_at))
        return batches

    def _note(self, group: Sequence[Draft], batches: Sequence[Batch], seconds: float | None) -> None:
        self._pending.loaded(group, batches)
        for batch in batches:
            name = batch.partition.topic.name
            self.rows[name] += len(batch.rows)
            self.rejects.update((name, reject.reason) for reject in batch.rejects)
        for observer in self._observers:
            observer.committed(batches, seconds)
        self._tell(is_due=True)
        self._source.commit({draft.key: draft.next_offset for draft in group})

    def _after_a_failure(self, group: Sequence[Draft], batches: Sequence[Batch], error: AwayError) -> None:
        """Wait until the warehouse answers again, and see what became of the transaction.

        It may have been committed, with only the answer lost.
        """
        while True:
            self._patience.failed(error)
            try:
                stored = self._warehouse.positions(self._cluster)
                break
            except AwayError as again:
                error = again
        rows = {(row.topic_id, row.partition): row for row in stored}
        for draft, batch in zip(group, batches, strict=True):
            if not self._is_next(draft):  # revoked while waiting
                continue
            row = rows.get((draft.partition.topic_id, draft.partition.number))
            position = self._pending.position(draft.key)
            if row and (row.next_offset, row.sha256) == (batch.next_offset, batch.sha256):
                self._note([draft], [batch], None)
            elif row is None or (row.next_offset, row.sha256) != position:
                self._source.rewind([draft.key])


def _narrowed(group: list[Draft], error: DataError) -> list[list[Draft]]:
    """Come closer to the record that was refused: one partition, then half of it, then the record alone."""
    if len(group) > 1:
        return [[draft] for draft in group]
    (draft,) = group
    match len(draft.rows):
        case 0:
            raise error
        case 1:
            return [[draft.rejected(error.reason)]]
        case _:
            return [[half] for half in draft.halves()]
