"""Records found by reading them, noted in a temporary table so that SQL can take them all at once."""

from collections.abc import Sequence
from typing import NamedTuple

from loaders.warehouse.layout import Columns
from loaders.warehouse.statements import Cell, Statements

_TABLE = "cdw_found"
_COLUMNS: Columns = {
    "place": "text",
    "topic_id": "text",
    "partition_number": "int",
    "record_offset": "bigint",
    "sha256": "text",
}

COORDINATES = "_topic_id, _partition, _offset"


class Coordinates(NamedTuple):
    """Where a record stands, and the hash of the bytes it came from, where that matters."""

    topic_id: str
    partition: int
    offset: int
    sha256: str | None = None


class Condition(NamedTuple):
    """A condition in SQL, with its parameters."""

    sql: str
    parameters: tuple[Cell, ...] = ()


class Found:
    """What has been found in the transaction so far; ``forget`` it before the transaction ends."""

    IN_HASHES = Condition(f"sha256 in (select sha256 from {_TABLE})")  # noqa: S608 - our own name
    """Holds for records with the hash of one that was noted."""

    def __init__(self, statements: Statements) -> None:
        """Make the table."""
        self._statements = statements
        statements.execute(
            f"create temporary table {_TABLE} (place text, topic_id text, partition_number integer, "
            "record_offset bigint, sha256 text)"
        )

    def note(self, place: str, records: Sequence[Coordinates]) -> Condition:
        """Note records of one place; the condition holds for these, where ``place`` has them."""
        if records:
            columns = (list(cells) for cells in zip(*records, strict=True))
            data = dict(zip(list(_COLUMNS)[1:], columns, strict=True))
            self._statements.append(_TABLE, _COLUMNS, {"place": place, **data})
        return Condition(
            f"({COORDINATES}) in (select topic_id, partition_number, record_offset from {_TABLE} "  # noqa: S608
            "where place = %s)",
            (place,),
        )

    def forget(self) -> None:
        """Drop the table."""
        self._statements.execute(f"drop table {_TABLE}")
