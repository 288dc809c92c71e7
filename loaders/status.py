"""What a warehouse has been loaded with, and what Kafka has for it that is not loaded yet."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from loaders.errors import CdwError
from loaders.kafka import outlook
from loaders.kafka.cluster import KafkaCluster
from loaders.kafka.outlook import Outlook
from loaders.profile import Target
from loaders.settings import Settings, load_settings, project_dir
from loaders.topics import load_topics
from loaders.warehouse import open_warehouse
from loaders.warehouse.layout import BATCHES, POSITIONS, REJECTS
from loaders.warehouse.protocol import Position, Warehouse

State = outlook.State | Literal["superseded", "gone", "unknown"]

_NO_TABLES = "no raw tables: nothing has been loaded here yet (cdw load, or cdw load --from DIR)"
_DIRECTORY = "dir:"
_KAFKA_SECONDS = 5.0
# What to say of a state; of the others, the figures say enough.
_WORDS: Mapping[State | None, str] = {
    "not_loaded": "in Kafka, never loaded from here: cdw load takes it up",
    "made_anew": "the topic was deleted and made anew, and nothing of the new one is loaded: "
    "cdw seek {topic} --to earliest",
    "retention_close": "not loaded for more than half of the topic's retention: Kafka will drop it",
    "retention_passed": "Kafka has dropped offsets {next_offset} to {before_begin} before they were loaded: "
    "cdw seek {topic} --partition {partition} --to earliest",
    "beyond_end": "the warehouse is ahead of Kafka, which has lost records: "
    "cdw seek {topic} --partition {partition} --to latest",
    "gone": "no longer in Kafka",
    "superseded": "an earlier topic of this name, or loaded once more since",
    "unknown": "Kafka's side is not known",
}
# Of these, waiting makes nothing better.
_STUCK = frozenset({"made_anew", "retention_passed", "beyond_end"})


@dataclass(slots=True)
class PartitionStatus:
    """One partition of one source; times are ISO 8601 in UTC.

    What only Kafka knows is None where it was not asked (``state`` is None: a topic directory) or did not
    answer (``unknown``). ``begin`` and ``end`` are Kafka's offsets, ``lag`` counts offsets, control records
    among them, and ``withheld`` those behind an open transaction, which no reader is given before it ends;
    ``next_offset`` is None where nothing was ever loaded.
    """

    cluster: str
    topic: str
    topic_id: str
    partition: int
    state: State | None
    next_offset: int | None
    begin: int | None = None
    end: int | None = None
    lag: int | None = None
    withheld: int | None = None
    oldest_unloaded_at: str | None = None
    oldest_unloaded_age_seconds: float | None = None
    rows: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    last_batch_at: str | None = None

    def as_line(self) -> str:
        """The partition for people."""
        parts = [f"next offset {self.next_offset}"] if self.next_offset is not None else []
        if self.end is not None:
            parts += [f"end {self.end}", f"lag {self.lag}"]
        if self.withheld:
            parts.append(f"{self.withheld} behind an open transaction (kafka-transactions.sh find-hanging)")
        if self.oldest_unloaded_age_seconds is not None:
            age = timedelta(seconds=round(self.oldest_unloaded_age_seconds))
            parts.append(f"oldest unloaded record {age} old")
        parts.append(f"{self.rows} rows")
        parts += [f"{count} rejected ({reason})" for reason, count in self.rejects.items()] or ["no rejects"]
        parts.append(f"last batch {self.last_batch_at}" if self.last_batch_at else "no batch yet")
        parts.append(f"source {self.cluster}")
        if words := _WORDS.get(self.state):
            before_begin = None if self.begin is None else self.begin - 1
            parts.append(words.format(**asdict(self), before_begin=before_begin))
        return f"{self.topic}, partition {self.partition}: {', '.join(parts)}"


@dataclass(slots=True)
class KafkaStatus:
    """The Kafka that was asked; ``unknown`` says what could not be learned from it, in words."""

    where: str
    cluster: str | None = None
    unknown: str | None = None
    missing_topics: list[str] = field(default_factory=list)

    def as_line(self) -> str:
        """Kafka for people."""
        parts = [self.where, *([f"cluster {self.cluster}"] if self.cluster else [])]
        if self.missing_topics:
            parts.append(f"has no topic {', '.join(self.missing_topics)}")
        if self.unknown:
            parts.append(f"not known: {self.unknown}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Status:
    """A warehouse in words, and its partitions; None where no loader has been there.

    ``kafka`` is None where nothing was ever loaded from Kafka, and none was named.
    """

    warehouse: str
    partitions: list[PartitionStatus] | None
    kafka: KafkaStatus | None = None

    def as_json(self) -> str:
        """The status as JSON, one object."""
        return json.dumps(asdict(self), indent=2)

    def as_lines(self) -> list[str]:
        """The status for people."""
        lines = [self.warehouse, *([self.kafka.as_line()] if self.kafka else [])]
        if self.partitions is None:
            return [*lines, _NO_TABLES]
        return [*lines, *(each.as_line() for each in self.partitions or ())] + [
            "nothing has been loaded yet"
        ] * (not any(each.next_offset is not None for each in self.partitions))

    def is_older_than(self, seconds: float) -> bool:
        """Whether a record has waited for longer, or may have: Kafka is not known, or a load cannot go on.

        It may have as well where no loader has been: nobody knows what was to be there.
        """
        if self.partitions is None or (self.kafka and self.kafka.unknown):
            return True
        return any(
            each.state in _STUCK or (each.oldest_unloaded_age_seconds or 0) > seconds
            for each in self.partitions
        )


def read_status(target: Target) -> Status:
    """Read the status of a warehouse, and what Kafka has for it; nothing is written.

    Kafka is asked where something was loaded from it, or where CDW_KAFKA_BOOTSTRAP_SERVERS names it.

    Raises:
        CdwError: the warehouse cannot be opened or read. A Kafka that does not answer is no error: the status
            says so.
    """
    settings = load_settings()
    with open_warehouse(target, read_only=True) as warehouse:
        if not warehouse.has_layout():
            return Status(warehouse.where, None)
        partitions = list(_loaded(warehouse))
        is_kafka_used = any(not each.cluster.startswith(_DIRECTORY) for each in partitions)
        if not is_kafka_used and "kafka_bootstrap_servers" not in settings.model_fields_set:
            return Status(warehouse.where, partitions)
    # Kafka may take its time: by now the DuckDB file is free for others.
    kafka = _ask_kafka(settings, partitions)
    partitions.sort(key=lambda each: (each.topic, each.cluster, each.partition, each.topic_id))
    return Status(warehouse.where, partitions, kafka)


def _loaded(warehouse: Warehouse) -> Iterator[PartitionStatus]:
    """The warehouse's side."""
    rejects: dict[tuple[str, int], dict[str, int]] = {}
    for topic_id, partition, reason, count in warehouse.rows(
        "select _topic_id, _partition, reason, count(*) "  # noqa: S608 - our names
        f"from {REJECTS} group by 1, 2, 3 order by 3"
    ):
        rejects.setdefault((topic_id, partition), {})[reason] = count
    for cluster, topic, topic_id, partition, next_offset, rows, last in warehouse.rows(
        "select p.cluster, p.topic, p.topic_id, p.partition, p.next_offset, "  # noqa: S608 - our names
        "coalesce(sum(b.row_count), 0), max(case when b.kind = 'load' then b.loaded_at end) "
        f"from {POSITIONS} p left join {BATCHES} b using (cluster, topic, topic_id, partition) "
        "group by 1, 2, 3, 4, 5 order by 2, 1, 4, 3"
    ):
        yield PartitionStatus(
            cluster=cluster,
            topic=topic,
            topic_id=topic_id,
            partition=partition,
            state=None if cluster.startswith(_DIRECTORY) else "unknown",
            next_offset=next_offset,
            rows=int(rows),
            rejects=rejects.get((topic_id, partition), {}),
            last_batch_at=f"{last.isoformat()}Z" if last else None,
        )


def _ask_kafka(settings: Settings, partitions: list[PartitionStatus]) -> KafkaStatus:
    """Complete the partitions with Kafka's side, and add those that were never loaded."""
    kafka = KafkaCluster(settings, _KAFKA_SECONDS)
    status = KafkaStatus(kafka.where)
    topics = load_topics(project_dir(settings))
    try:
        status.cluster = kafka.cluster_id()
        ours = [each for each in partitions if each.cluster == status.cluster]
        stored = [
            Position(each.topic, each.topic_id, each.partition, each.next_offset or 0, None) for each in ours
        ]
        outlooks = outlook.look(kafka, settings, topics, stored)
    except CdwError as error:
        status.unknown = error.what
        return status
    status.missing_topics = sorted(topics.keys() - {each.key.topic for each in outlooks})
    if unread := sum(not each.is_read for each in outlooks):
        status.unknown = f"how old the first unloaded record of {unread} partition(s) is"
    others = {each.cluster for each in partitions if each.state == "unknown"} - {status.cluster}
    if others and not ours:
        status.unknown = "what was loaded is from another Kafka cluster than this one"
    found = {(each.topic, each.topic_id, each.partition): each for each in ours}
    there = {seen.key for seen in outlooks}
    for each in ours:  # those that stand are told anew below
        each.state = "superseded" if (each.topic, each.partition) in there else "gone"
    for seen in outlooks:
        partition = _of(seen, found, status.cluster)
        _complete(partition, seen)
        if seen.position is None:
            partitions.append(partition)
    return status


def _of(
    seen: Outlook, found: Mapping[tuple[str, str, int], PartitionStatus], cluster: str
) -> PartitionStatus:
    """The partition as it was loaded, or as one that never was."""
    if seen.position:
        return found[seen.key.topic, seen.position.topic_id, seen.key.number]
    return PartitionStatus(cluster, seen.key.topic, seen.topic_id, seen.key.number, seen.state, None)


def _complete(partition: PartitionStatus, seen: Outlook) -> None:
    partition.state = seen.state
    partition.begin, partition.end = seen.ends
    partition.lag = seen.lag
    partition.withheld = seen.withheld
    if seen.oldest_at:
        partition.oldest_unloaded_at = seen.oldest_at.isoformat(timespec="milliseconds").replace(
            "+00:00", "Z"
        )
        age = (datetime.now(UTC) - seen.oldest_at).total_seconds()
        partition.oldest_unloaded_age_seconds = round(max(age, 0.0), 3)
