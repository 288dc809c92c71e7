"""``cdw migrate``: brings the raw tables of an older version of cdw up to this one's layout, in place.

Each step is one transaction: done whole or not at all, and never twice. What a step says is for good: it must
not follow ``loaders.warehouse.layout``, which speaks of the newest layout only.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

from loaders.errors import CdwError
from loaders.profile import Target
from loaders.warehouse import open_warehouse
from loaders.warehouse.layout import LAYOUT, VERSION
from loaders.warehouse.statements import Statements

# By the version that a step starts from. DuckDB takes Postgres' names of types.
_STEPS: Mapping[int, Sequence[str]] = {
    1: (
        "create table raw.layout (version integer, warehouse_id text, applied_at timestamp, "
        "primary key (version))",
        "alter table raw_restricted.rejected_records add column _headers json",
        "alter table raw_restricted.rejected_records add column _key_bytes bytea",
        "alter table raw.load_positions add column sha256 text",
        "alter table raw.load_batches add column kind text",
        "update raw.load_batches set kind = 'load'",
        "update raw.load_positions set sha256 = (select b.sha256 from raw.load_batches b "
        "where b.cluster = load_positions.cluster and b.topic = load_positions.topic "
        "and b.topic_id = load_positions.topic_id and b.partition = load_positions.partition "
        "and b.next_offset = load_positions.next_offset)",
    ),
}


class Migrated(NamedTuple):
    """The layout's version before and after; the same where there was nothing to do."""

    before: int
    after: int

    def __str__(self) -> str:
        """Say it in words."""
        if self.before == self.after:
            return f"the raw tables have layout {self.after} already: nothing to do"
        return f"the raw tables have layout {self.after} now; before, {self.before}"


def migrate(target: Target) -> Migrated:
    """Upgrade the raw tables of a warehouse.

    Raises:
        CdwError: nothing has been loaded there, a newer cdw has been there, or the warehouse refuses; steps
            that were done before stay, and the same call goes on from there.
    """
    # Read-only first: opening a file that is not there would make it.
    with open_warehouse(target, read_only=True) as warehouse:
        if not warehouse.has_layout():
            raise CdwError(
                "no raw tables: nothing has been loaded here yet",
                where=warehouse.where,
                do="there is nothing to migrate: cdw load makes the newest layout",
            )
    before: int | None = None
    with open_warehouse(target) as warehouse:
        while True:
            with warehouse.maintenance() as statements:
                version = _version(statements)
                before = version if before is None else before
                if version == VERSION:
                    return Migrated(before, version)
                if version > VERSION:
                    raise CdwError(
                        f"the raw tables have layout {version}, this version of cdw knows {VERSION} at most",
                        where=warehouse.where,
                        do="use the newer version of cdw that wrote them",
                    )
                for statement in _STEPS[version]:
                    statements.execute(statement)
                _tell(statements, version + 1)


def _version(statements: Statements) -> int:
    is_told = statements.execute(
        "select 1 from information_schema.tables where table_schema = 'raw' and table_name = 'layout'"
    )
    if not is_told:
        return 1
    ((version,),) = statements.execute(f"select max(version) from {LAYOUT}")  # noqa: S608 - our own name
    return int(version)


def _tell(statements: Statements, version: int) -> None:
    ((warehouse_id,),) = statements.execute(f"select min(warehouse_id) from {LAYOUT}")  # noqa: S608
    statements.execute(
        f"insert into {LAYOUT} (version, warehouse_id, applied_at) values (%s, %s, %s)",  # noqa: S608
        (version, warehouse_id or uuid4().hex, datetime.now(UTC).replace(tzinfo=None)),
    )
