"""What maintenance writes into ``raw.load_batches``, so that the books balance after it."""

from datetime import datetime
from typing import Literal, NamedTuple

from loaders.warehouse.layout import BATCHES, POSITIONS
from loaders.warehouse.statements import Statements


class Place(NamedTuple):
    """A partition of a topic, as rows and rejects name it."""

    topic: str
    topic_id: str
    partition: int


class Entry(NamedTuple):
    """How many rows and rejects came to a partition, or went (below 0); ``at`` is UTC without a zone."""

    kind: Literal["purge", "replay"]
    place: Place
    rows: int
    rejects: int
    at: datetime


def write_entry(statements: Statements, entry: Entry) -> int:
    """Write an entry and return its batch id. It has no offsets: the position stays where it is."""
    kind, place, rows, rejects, at = entry
    ((batch_id,),) = statements.execute(
        f"insert into {BATCHES} (cluster, topic, topic_id, partition, row_count, reject_count, "  # noqa: S608
        "explained_count, byte_count, loaded_at, kind) "
        "select min(cluster), %s, %s, %s, %s, %s, 0, 0, %s, %s "
        f"from {POSITIONS} where topic_id = %s and partition = %s returning batch_id",
        (*place, rows, rejects, at, kind, place.topic_id, place.partition),
    )
    return int(batch_id)
