"""What Kafka has for a warehouse: how far the end of each partition is from where the warehouse stands."""

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, TopicPartition

from loaders.kafka.cluster import Ends, KafkaCluster, Key
from loaders.kafka.config import client_config
from loaders.kafka.positions import current, kafka_id
from loaders.settings import Settings
from loaders.warehouse.protocol import Position

State = Literal["current", "not_loaded", "made_anew", "retention_close", "retention_passed", "beyond_end"]

_READ_SECONDS = 10.0
# Of a topic's retention: what has waited for longer may be gone before anybody has looked.
_CLOSE = 0.5


class Outlook(NamedTuple):
    """A partition in Kafka. ``position`` is where the warehouse stands in it, if it was ever loaded.

    ``withheld`` counts offsets behind an open transaction, which no reader is given before it ends.
    ``oldest_at`` (UTC) is Kafka's time of the first record that is not loaded, be it one of those; None where
    there is none, it has no time, or it could not be read (``is_read`` is false then).
    """

    key: Key
    topic_id: str
    state: State
    position: Position | None
    ends: Ends
    withheld: int
    oldest_at: datetime | None = None
    is_read: bool = True

    @property
    def first_unloaded(self) -> int:
        """The offset at which a load would go on."""
        return max(self.position.next_offset, self.ends.low) if self.position else self.ends.low

    @property
    def lag(self) -> int:
        """How many offsets there are from there to the end."""
        return max(self.ends.high - self.first_unloaded, 0)

    @property
    def first_withheld(self) -> int:
        """The offset from which on nothing unloaded may be read."""
        return max(self.ends.high, self.first_unloaded)


def look(
    kafka: KafkaCluster, settings: Settings, topics: Collection[str], stored: Sequence[Position]
) -> list[Outlook]:
    """Compare the positions of a warehouse with what Kafka has of these topics; nothing is joined or moved.

    Raises:
        AwayError: Kafka does not answer.
        CdwError: Kafka refuses this user.
    """
    found = kafka.topics(topics)
    keys = [Key(topic, number) for topic, state in found.items() for number in state.partitions]
    # Asked for first: what is sent between the questions is behind no transaction.
    written = kafka.written(keys)
    ends = kafka.ends(keys)
    outlooks = [
        _outlook(key, found[key.topic].topic_id, stored, ends[key], written[key]) for key in sorted(keys)
    ]
    readable = {each.key: each.first_unloaded for each in outlooks if each.lag}
    withheld = {each.key: each.first_withheld for each in outlooks if each.withheld}
    times = [
        _first_times(settings, readable, "read_committed"),
        _first_times(settings, withheld, "read_uncommitted"),
    ]
    retention = kafka.retention({key.topic for key in readable | withheld})
    return [_aged(each, times, retention.get(each.key.topic)) for each in outlooks]


def _outlook(key: Key, topic_id: str, stored: Sequence[Position], ends: Ends, written: int) -> Outlook:
    position = current(stored, key, topic_id)
    state: State = "current"
    if position is None:
        others = [row for row in stored if row.topic == key.topic]
        is_anew = others and all(kafka_id(row.topic_id) != topic_id for row in others)
        state = "made_anew" if is_anew else "not_loaded"
    elif position.next_offset < ends.low:
        state = "retention_passed"
    elif position.next_offset > ends.high:
        state = "beyond_end"
    outlook = Outlook(key, topic_id, state, position, ends, 0)
    return outlook._replace(withheld=max(written - outlook.first_withheld, 0))


def _aged(
    outlook: Outlook, times: Sequence[Mapping[Key, datetime | None]], retention: float | None
) -> Outlook:
    """Add the age, and say so where Kafka is going to drop what is not loaded."""
    asked = [found for found, count in zip(times, (outlook.lag, outlook.withheld), strict=True) if count]
    at = min((at for found in asked if (at := found.get(outlook.key))), default=None)
    is_close = (
        outlook.state == "current"
        and at is not None
        and retention is not None
        and (datetime.now(UTC) - at).total_seconds() > _CLOSE * retention
    )
    return outlook._replace(
        oldest_at=at,
        is_read=all(outlook.key in found for found in asked),
        state="retention_close" if is_close else outlook.state,
    )


def _first_times(
    settings: Settings, offsets: Mapping[Key, int], isolation: str
) -> dict[Key, datetime | None]:
    """The time of the first record at or after these offsets, None where there is none or it has no time.

    What could not be read in some seconds is left out.
    """
    if not offsets:
        return {}
    config: dict[str, Any] = {
        **client_config(settings),
        "group.id": f"{settings.kafka_group}-status",  # never joined
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": isolation,
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        # One batch of each partition will do: Kafka gives a whole one, however little is asked for.
        "fetch.message.max.bytes": 1,
        "queued.min.messages": 1,
        "log_level": 0,
        "error_cb": _ignore,
    }
    times: dict[Key, datetime | None] = {}
    consumer = Consumer(cast("dict[str, str | int | float | bool]", config))
    try:
        consumer.assign([TopicPartition(*key, offset) for key, offset in offsets.items()])
        until = time.monotonic() + _READ_SECONDS
        while len(times) < len(offsets) and (left := until - time.monotonic()) > 0:
            message = consumer.poll(left)
            if message is None:
                continue
            key = Key(message.topic() or "", message.partition() or 0)
            error = message.error()
            if key not in times and (error is None or error.code() == KafkaError._PARTITION_EOF):
                kind, milliseconds = (TIMESTAMP_NOT_AVAILABLE, 0) if error else message.timestamp()
                times[key] = None if kind == TIMESTAMP_NOT_AVAILABLE else _time(milliseconds)
                consumer.pause([TopicPartition(*key)])
    finally:
        consumer.close()
    return times


def _time(milliseconds: int) -> datetime | None:
    """A record's time; None where no calendar has it."""
    try:
        return datetime.fromtimestamp(milliseconds / 1_000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _ignore(_: KafkaError) -> None:
    """What is not read in time is not known; librdkafka would else write the error to stderr."""
