"""Where to begin in each partition: where the warehouse stands, if Kafka still has what comes next there.

What cannot be decided without losing or repeating records is not decided here: it is an error that names
the command which does decide.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from loaders.errors import CdwError
from loaders.kafka.cluster import Ends, Key
from loaders.topics import Topic
from loaders.warehouse.protocol import Partition, Position

Start = Literal["earliest", "latest"]
# Kafka's ids have no full stop in them. What follows one counts how often somebody moved the position back:
# the same offsets come again then, and are told apart by it.
_EPOCH = "."


class Found(NamedTuple):
    """A partition as Kafka has it now."""

    topic: Topic
    topic_id: str
    ends: Ends


class Place(NamedTuple):
    """Where to go on; ``is_new`` where the warehouse has no position for it yet."""

    partition: Partition
    position: Position
    is_new: bool


def kafka_id(topic_id: str) -> str:
    """The topic's id in Kafka, of its id in the warehouse."""
    return topic_id.partition(_EPOCH)[0]


def epoch(topic_id: str) -> int:
    """How often the position was moved back."""
    return int(topic_id.partition(_EPOCH)[2] or 0)


def with_epoch(topic_id: str, number: int) -> str:
    """The id in the warehouse of a topic whose position was moved back so many times."""
    return f"{kafka_id(topic_id)}{_EPOCH}{number}" if number else kafka_id(topic_id)


def current(stored: Iterable[Position], key: Key, topic_id: str) -> Position | None:
    """The position of a partition of the topic with this id in Kafka, of its last epoch."""
    rows = [
        row
        for row in stored
        if (row.topic, row.partition) == key and kafka_id(row.topic_id) == kafka_id(topic_id)
    ]
    return max(rows, key=lambda row: epoch(row.topic_id), default=None)


def first_offset(ends: Ends, start: Start | None, where: str) -> int:
    """Where to begin in a partition of a cluster from which nothing was loaded yet.

    Raises:
        CdwError: nobody has said so.
    """
    if start is None:
        raise CdwError(
            "nothing has been loaded from this Kafka yet: there is no position to go on from",
            where=where,
            do="cdw load --start earliest loads all that Kafka has, --start latest only what comes "
            "from now on",
        )
    return ends.low if start == "earliest" else ends.high


def find_places(
    partitions: Mapping[Key, Found], cluster: str, stored: list[Position], where: str
) -> dict[Key, Place]:
    """Find the place of each partition of a cluster from which something was loaded.

    Raises:
        CdwError: a topic was made anew under its name, or Kafka does not have the records from the position
            on.
    """
    return {key: _place(key, found, cluster, stored, where) for key, found in partitions.items()}


def _place(key: Key, found: Found, cluster: str, stored: list[Position], where: str) -> Place:
    row = current(stored, key, found.topic_id)
    is_new = row is None
    if row is None:
        offset = _added_offset(key, found, stored, where)
        row = Position(key.topic, kafka_id(found.topic_id), key.number, offset, None)
    elif row.next_offset < found.ends.low:
        raise CdwError(
            f"Kafka has dropped records of topic {key.topic}, partition {key.number}, before they were "
            f"loaded: offsets {row.next_offset} to {found.ends.low - 1} (retention, or deleted by hand)",
            where=where,
            do=f"cdw seek {key.topic} --partition {key.number} --to earliest goes on with what is left, and "
            "records the loss; give the topic a longer retention.ms",
        )
    elif row.next_offset > found.ends.high:
        raise CdwError(
            f"topic {key.topic}, partition {key.number} was loaded up to offset {row.next_offset}, but ends "
            f"at {found.ends.high} in Kafka: it has lost records, or was restored from a backup",
            where=where,
            do=f"cdw seek {key.topic} --partition {key.number} --to latest goes on from its end there, "
            "--to earliest loads all it has once more",
        )
    return Place(Partition(cluster, found.topic, row.topic_id, key.number), row, is_new)


def _added_offset(key: Key, found: Found, stored: list[Position], where: str) -> int:
    """A partition that was added, or a topic that was: from its beginning, so that nothing is left out."""
    others = [row for row in stored if row.topic == key.topic]
    if others and all(kafka_id(row.topic_id) != found.topic_id for row in others):
        raise CdwError(
            f"topic {key.topic} was deleted and made anew under the same name: its id is {found.topic_id}, "
            f"what was loaded had {', '.join(sorted({kafka_id(row.topic_id) for row in others}))}",
            where=where,
            do=f"cdw seek {key.topic} --to earliest loads what the new topic has, --to latest only what "
            "comes from now on",
        )
    return found.ends.low
