"""Move a topic's position on purpose: the remedy for what the loader does not decide by itself."""

import hashlib
from datetime import UTC, datetime

from loaders.errors import CdwError
from loaders.kafka.cluster import Ends, KafkaCluster, Key
from loaders.kafka.positions import current, epoch, kafka_id, with_epoch
from loaders.profile import find_target
from loaders.settings import load_settings, project_dir
from loaders.topics import load_topics
from loaders.warehouse import open_warehouse
from loaders.warehouse.protocol import Batch, Partition, Position, Warehouse


def seek(target: str | None, topic_name: str, to: str, number: int | None = None) -> list[str]:
    """Move the position of a topic, or of one partition, to ``earliest``, ``latest`` or an offset.

    Forward, the offsets passed over are recorded in ``raw.load_batches`` (kind ``skip``). Backward, or in a
    topic made anew, the position begins again under an id of its own, so that offsets which come twice are
    told apart. Gives a line a partition.

    Raises:
        CdwError: the topic or partition is not there, a loader is at work, or the offset is not in Kafka.
    """
    settings = load_settings()
    topics = load_topics(project_dir(settings))
    if topic_name not in topics:
        raise CdwError(
            f"there is no topic {topic_name} in the configuration",
            where="vars.topics of dbt_project.yml",
            do=f"choose one of: {', '.join(topics)}",
        )
    kafka = KafkaCluster(settings)
    with open_warehouse(find_target(target)) as warehouse:
        warehouse.prepare(list(topics.values()))
        group = f"{settings.kafka_group}-{warehouse.warehouse_id[:12]}"
        if count := kafka.members(group):
            raise CdwError(
                f"{count} loader(s) of this warehouse are at work",
                where=f"consumer group {group}; {kafka.where}",
                do="stop them first (a loader that was killed is gone after its session timeout)",
            )
        cluster = kafka.cluster_id()
        state = kafka.topics([topic_name]).get(topic_name)
        numbers = [] if state is None else state.partitions if number is None else [number]
        if state is None or not set(numbers) <= set(state.partitions):
            raise CdwError(
                f"topic {topic_name} {'is not there' if state is None else f'has no partition {number}'}",
                where=kafka.where,
                do="create it first, or name one that is there",
            )
        ends = kafka.ends(Key(topic_name, number) for number in numbers)
        stored = warehouse.positions(cluster)
        if not stored:
            raise CdwError(
                "nothing has been loaded from this Kafka yet: there is no position to move",
                where=f"{warehouse.where}; {kafka.where}",
                do="cdw load --start earliest or latest begins in all topics",
            )
        # All of them before any is moved.
        offsets = {key: _offset(key, to, found, kafka.where) for key, found in ends.items()}
        lines = []
        for key, offset in offsets.items():
            partition = Partition(cluster, topics[topic_name], kafka_id(state.topic_id), key.number)
            done = _move(warehouse, partition, current(stored, key, state.topic_id), offset)
            lines.append(f"{partition.words}: {done}")
        return lines


def _offset(key: Key, to: str, ends: Ends, at: str) -> int:
    if to in {"earliest", "latest"}:
        return ends.low if to == "earliest" else ends.high
    if not to.isdecimal() or not ends.low <= int(to) <= ends.high:
        raise CdwError(
            f"topic {key.topic}, partition {key.number} has offsets {ends.low} to {ends.high}; {to} is none",
            where=at,
            do="choose earliest, latest or one of these offsets; a partition at a time with --partition",
        )
    return int(to)


def _move(warehouse: Warehouse, partition: Partition, row: Position | None, offset: int) -> str:
    if row is None:
        warehouse.begin([(partition, offset)])
        return f"begins at offset {offset}"
    partition = Partition(partition.cluster, partition.topic, row.topic_id, partition.number)
    if offset < row.next_offset:
        again = with_epoch(row.topic_id, epoch(row.topic_id) + 1)
        warehouse.begin([(Partition(partition.cluster, partition.topic, again, partition.number), offset)])
        return f"moved back from offset {row.next_offset} to {offset}; loaded again as topic id {again}"
    if offset == row.next_offset:
        return f"stands at offset {offset} already"
    now = datetime.now(UTC).replace(tzinfo=None)
    skip = Batch(
        partition=partition,
        first_offset=row.next_offset,
        next_offset=offset,
        rows=[],
        rejects=[],
        explained_count=offset - row.next_offset,
        byte_count=0,
        sha256=hashlib.sha256((row.sha256 or "").encode()).hexdigest(),
        previous_sha256=row.sha256,
        loaded_at=now,
        kind="skip",
    )
    warehouse.load([skip])
    return f"{offset - row.next_offset} offsets passed over, from {row.next_offset} to {offset - 1}"
