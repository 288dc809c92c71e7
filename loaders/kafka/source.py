"""A member of the consumer group, which reads from where the warehouse stands.

Kafka says which partitions are ours, the warehouse says from where: a partition that the group assigns waits
until its position is known (``place``) and only then is fetched. Kafka's own offsets decide nothing.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from loaders.errors import CdwError
from loaders.kafka.cluster import FORBIDDEN, Key, forbidden, unusable, where
from loaders.kafka.config import client_config
from loaders.kafka.statistics import INTERVAL_MS, Statistics, read_statistics
from loaders.settings import Settings

log = structlog.get_logger()

# An error that lasts comes many times a second.
_SECONDS_A_REPEAT = 30.0
_MESSAGES_A_CALL = 5_000
# A loader holds this much of what it has not asked for yet, and a batch beside it. In memory, short records
# take more than their bytes.
_QUEUE_KILOBYTES = 16_384

_PASSING = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError.UNKNOWN,  # of the broker itself
    }
)
# Of a topic that is not there (yet, or any more).
_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID})


class Fetched(Protocol):
    """Where the source puts what it has fetched."""

    def message(self, key: Key, message: Message) -> None:
        """A record, in the order of its partition."""

    def end(self, key: Key, offset: int) -> None:
        """All before this offset has been given; nothing more is there for now."""

    def revoked(self, keys: Iterable[Key]) -> None:
        """These partitions are another loader's from now on."""


class KafkaSource:
    """The topics of a cluster; close it at the end, to leave the group."""

    def __init__(self, settings: Settings, topics: Sequence[str], group: str, into: Fetched) -> None:
        """Join the group, which takes effect with the first ``poll``.

        Raises:
            CdwError: a Kafka property is unknown or cannot be used.
        """
        self._topics = list(topics)
        self._into = into
        self.where = where(settings)
        self._fatal: CdwError | None = None
        self._told_at: dict[int, float] = {}
        self._paused = False
        # No more than a batch: what one call brings is one batch's.
        self._messages_a_call = min(settings.batch_records, _MESSAGES_A_CALL)
        self.unplaced: set[Key] = set()
        """Partitions that are ours and wait for a position."""
        self.placed: set[Key] = set()
        self.is_assigned = False
        """Whether the group has said which partitions are ours (it may have been none)."""
        self.out_of_range: set[Key] = set()
        """Partitions whose position Kafka does not have."""
        self.missing: set[str] = set()
        """Topics that are known not to be there."""
        self.statistics: Statistics | None = None
        """What librdkafka has reported last."""
        config = client_config(settings)
        client: dict[str, Any] = {
            "fetch.queue.backoff.ms": 10,  # the default, a second, starves a consumer that is quick
            "queued.max.messages.kbytes": _QUEUE_KILOBYTES,
            "topic.metadata.refresh.interval.ms": 30_000,
            "log_level": 4,  # warnings
            **config,
            "group.id": group,
            "group.protocol": settings.kafka_group_protocol,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
            "statistics.interval.ms": INTERVAL_MS,
            "stats_cb": self._on_statistics,
            "error_cb": self._on_error,
            "logger": _Log(),
        }
        if settings.kafka_instance_id:
            client["group.instance.id"] = settings.kafka_instance_id
        if settings.kafka_group_protocol == "classic":
            client["partition.assignment.strategy"] = "cooperative-sticky"
        try:
            self._consumer = Consumer(client)
            self._consumer.subscribe(
                self._topics,
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_revoke,
            )
        except KafkaException as error:
            raise unusable(error, settings) from None

    # What the group says. Both run inside ``poll``.

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.is_assigned = True
        self.unplaced |= {Key(found.topic, found.partition) for found in partitions}
        self.missing -= {key.topic for key in self.unplaced}
        consumer.incremental_assign([])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        keys = {Key(found.topic, found.partition) for found in partitions}
        self.unplaced -= keys
        self.out_of_range -= keys
        consumer.incremental_unassign([TopicPartition(*key) for key in keys & self.placed])
        self.placed -= keys
        self._into.revoked(keys)

    def place(self, positions: Mapping[Key, int]) -> None:
        """Fetch partitions of ``unplaced`` from these offsets on."""
        ours = {key: offset for key, offset in positions.items() if key in self.unplaced}
        self.unplaced -= ours.keys()
        self.placed |= ours.keys()
        partitions = [TopicPartition(*key, offset) for key, offset in ours.items()]
        self._consumer.incremental_assign(partitions)
        # A partition that went while it was paused comes back paused: librdkafka keeps that.
        (self._consumer.pause if self._paused else self._consumer.resume)(partitions)

    def rewind(self, keys: Iterable[Key]) -> None:
        """Forget what was fetched of these partitions: they wait for a position again."""
        again = self.placed & set(keys)
        self._consumer.incremental_unassign([TopicPartition(*key) for key in again])
        self.placed -= again
        self.unplaced |= again
        self._into.revoked(again)

    def poll(self, seconds: float) -> None:
        """Fetch for at most so long; what comes goes to ``Fetched``.

        Raises:
            CdwError: Kafka refuses for good.
        """
        for message in self._consumer.consume(self._messages_a_call, seconds):
            error = message.error()
            key = Key(message.topic() or "", message.partition() or 0)
            if error is None:
                self._into.message(key, message)
            elif error.code() == KafkaError._PARTITION_EOF:
                offset = message.offset()
                assert offset is not None
                self._into.end(key, offset)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                self.out_of_range.add(key)
            elif error.code() in _MISSING:
                self._tell_missing(key.topic)
            else:
                self._on_error(error)
        if self._fatal:
            raise self._fatal

    def _tell_missing(self, topic: str) -> None:
        """Say once that a topic is not there; librdkafka does so every time it has looked."""
        if topic not in self.missing:
            self.missing.add(topic)
            log.warning("topics_missing", topics=[topic])

    def _on_statistics(self, text: str) -> None:
        # While fetching is paused, nothing is asked of partitions.
        found = read_statistics(text)
        self.statistics = found._replace(ends={}) if self._paused else found

    def _on_error(self, error: KafkaError) -> None:
        """Note what does not pass by itself; it is raised by ``poll``, not in librdkafka's callback."""
        code = error.code()
        if code in FORBIDDEN:
            self._fatal = forbidden(error, self.where)
        elif code == KafkaError._FATAL or error.fatal():
            self._fatal = CdwError(
                f"the Kafka client cannot go on ({error.name()})",
                where=self.where,
                do="see that no other loader has the same CDW_KAFKA_INSTANCE_ID, and that the brokers know "
                "the protocol of CDW_KAFKA_GROUP_PROTOCOL, then run this one again",
            )
        elif code not in _PASSING and not error.retriable():
            self._fatal = CdwError(
                f"Kafka reports {error.name()}", where=self.where, do="mend that, then run this command again"
            )
        else:
            now = time.monotonic()
            if now - self._told_at.get(code, -_SECONDS_A_REPEAT) >= _SECONDS_A_REPEAT:
                self._told_at[code] = now
                log.warning("kafka_error", code=error.name())

    # Waiting without leaving the group

    def idle(self, seconds: float) -> None:
        """Stay in the group for a while without taking records."""
        self._pause()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.poll(min(left, 0.5))

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._consumer.pause([TopicPartition(*key) for key in self.placed])

    def resume(self) -> None:
        """Take records again."""
        if self._paused:
            self._paused = False
            self._consumer.resume([TopicPartition(*key) for key in self.placed])

    def commit(self, positions: Mapping[Key, int]) -> None:
        """Tell Kafka where we stand, for tools that show lag; nothing rests on it."""
        offsets = [TopicPartition(*key, offset) for key, offset in positions.items() if key in self.placed]
        if offsets:
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                log.warning("kafka_offsets_not_committed", code=error.args[0].name())

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


class _Log:
    """Takes librdkafka's own log lines into ours: addresses, topics and errors, nothing of a record."""

    def __init__(self) -> None:
        """Nothing has been told yet."""
        self._told_at: dict[str, float] = {}

    def log(self, level: int, _form: str, facility: str, _client: str, text: str) -> None:
        """As ``logging.Logger.log`` is called by confluent_kafka; what lasts is said again after a while."""
        now = time.monotonic()
        if now - self._told_at.get(facility, -_SECONDS_A_REPEAT) >= _SECONDS_A_REPEAT:
            self._told_at[facility] = now
            log.log(level, "librdkafka", facility=facility, text=text)
