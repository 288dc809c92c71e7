"""What a warehouse has been loaded with: positions, rows, rejects by reason, last batch."""

import json
from dataclasses import asdict, dataclass, field

from loaders.profile import Target
from loaders.warehouse import open_warehouse
from loaders.warehouse.layout import BATCHES, POSITIONS, REJECTS

_NO_TABLES = "no raw tables: nothing has been loaded here yet (cdw load --from DIR)"


@dataclass(slots=True)
class PartitionStatus:
    """One partition of one source; ``last_batch_at`` is ISO 8601 in UTC."""

    cluster: str
    topic: str
    topic_id: str
    partition: int
    next_offset: int
    rows: int
    last_batch_at: str
    rejects: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Status:
    """A warehouse in words, and its partitions; None where no loader has been there."""

    warehouse: str
    partitions: list[PartitionStatus] | None

    def as_json(self) -> str:
        """The status as JSON, one object."""
        return json.dumps(asdict(self), indent=2)

    def as_lines(self) -> list[str]:
        """The status for people."""
        if self.partitions is None:
            return [self.warehouse, _NO_TABLES]
        lines = [self.warehouse]
        for entry in self.partitions:
            reasons = ", ".join(f"{count} rejected ({reason})" for reason, count in entry.rejects.items())
            lines.append(
                f"{entry.topic}, partition {entry.partition}: next offset {entry.next_offset}, "
                f"{entry.rows} rows, {reasons or 'no rejects'}, "
                f"last batch {entry.last_batch_at}, source {entry.cluster}"
            )
        return lines if self.partitions else [*lines, "nothing has been loaded yet"]


def read_status(target: Target) -> Status:
    """Read the status of a warehouse; nothing is written.

    Raises:
        CdwError: the warehouse cannot be opened or read.
    """
    with open_warehouse(target, read_only=True) as warehouse:
        if not warehouse.has_layout():
            return Status(warehouse.where, None)
        partitions = {
            (topic_id, partition): PartitionStatus(
                cluster=cluster,
                topic=topic,
                topic_id=topic_id,
                partition=partition,
                next_offset=next_offset,
                rows=int(rows),
                last_batch_at=f"{last.isoformat()}Z",
            )
            for cluster, topic, topic_id, partition, next_offset, rows, last in warehouse.rows(
                "select p.cluster, p.topic, p.topic_id, p.partition, p.next_offset, "  # noqa: S608 - our names
                f"sum(b.row_count), max(b.loaded_at) from {POSITIONS} p join {BATCHES} b using "
                "(cluster, topic, topic_id, partition) group by 1, 2, 3, 4, 5 order by 2, 1, 4"
            )
        }
        for topic_id, partition, reason, count in warehouse.rows(
            "select _topic_id, _partition, reason, count(*) "  # noqa: S608 - our names
            f"from {REJECTS} group by 1, 2, 3 order by 3"
        ):
            if entry := partitions.get((topic_id, partition)):
                entry.rejects[reason] = count
        return Status(warehouse.where, list(partitions.values()))
