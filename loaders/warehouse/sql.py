"""The load transaction and the raw layout in SQL, shared by the warehouses; a driver adds its own ways."""

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from types import TracebackType
from typing import ClassVar, Self
from uuid import uuid4

from loaders.errors import CdwError, FencedError
from loaders.topics import Topic
from loaders.warehouse import layout
from loaders.warehouse.layout import Columns, Type
from loaders.warehouse.protocol import Batch, LoadedBatch, Partition, Position, Record, Row
from loaders.warehouse.statements import Cell, Data, Statements

_WHERE = "cluster = %s and topic = %s and topic_id = %s and partition = %s"


class SqlWarehouse(ABC):
    """What SQL warehouses have in common. Parameters are ``%s`` in all statements."""

    types: ClassVar[Mapping[Type, str]]
    # What the catalog calls these types.
    type_names: ClassVar[Mapping[Type, str]]
    # Schema, table, column and type of all that stands in the schemas raw and raw_restricted, in order,
    # whether this user may read it or not.
    catalog: ClassVar[str]

    @property
    @abstractmethod
    def where(self) -> str:
        """The warehouse in words for messages."""

    @abstractmethod
    def _close(self) -> None:
        """Let go of the file or the connection."""

    @abstractmethod
    def _execute(self, sql: str, parameters: Sequence[Cell] = ()) -> list[Row]:
        """Run one statement and return its rows."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """All or nothing; a driver's error leaves it as a CdwError in our words."""

    @abstractmethod
    def _append(self, table: str, columns: Columns, data: Data) -> None:
        """Append rows to a table, as fast as the warehouse can."""

    @abstractmethod
    def _stream(self, sql: str, parameters: Sequence[Cell] = ()) -> Iterator[Row]:
        """Run one statement and give its rows as they come, for results of any size."""

    def _before_layout(self) -> None:  # noqa: B027 - most warehouses need nothing
        """Run first in the transaction that creates the layout."""

    def _after_layout(self) -> None:  # noqa: B027 - most warehouses need nothing
        """Run last in the transaction that creates the layout."""

    def _before_maintenance(self) -> None:  # noqa: B027 - most warehouses need nothing
        """Run first in a transaction of maintenance: see to it that it is the only one."""

    @contextmanager
    def maintenance(self) -> Iterator[Statements]:
        """One transaction of maintenance; see ``Warehouse.maintenance``."""
        with self._transaction():
            self._before_maintenance()
            yield Statements(self._execute, self._stream, self._append)

    def __enter__(self) -> Self:
        """Nothing to do: it is open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it, so that others can open it."""
        self._close()

    def rows(self, sql: str) -> list[Row]:
        """The result of a query of ours, which holds no value from a record."""
        with self._transaction():
            return self._execute(sql)

    def has_layout(self) -> bool:
        """Whether a loader has been here."""
        return _has_layout(self._found())

    def _found(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for schema, table, column, kind in self.rows(self.catalog):
            found.setdefault(f"{schema}.{table}", {})[column] = kind
        return found

    def prepare(self, topics: Sequence[Topic]) -> None:
        """Create what is missing of the raw layout; see ``Warehouse.prepare``."""
        wanted = layout.tables(topics)
        found = self._found()
        if _has_layout(found):  # not asked anew: another loader may be creating it
            self._check_version(layout.LAYOUT in found)
        if not wanted.keys() <= found.keys():
            with self._transaction():
                self._before_layout()
                schemas = self._execute("select nspname from pg_catalog.pg_namespace")
                for schema in layout.SCHEMAS:
                    # Not "if not exists": Postgres would ask for the right to create even then.
                    if (schema,) not in schemas:
                        self._execute(f"create schema {schema}")
                self._execute(f"create sequence if not exists {layout.BATCH_IDS}")
                for name, columns in wanted.items():
                    self._execute(layout.create_table(name, columns, self.types))
                self._execute(
                    f"insert into {layout.LAYOUT} (version, warehouse_id, applied_at) "  # noqa: S608
                    "values (%s, %s, %s) on conflict do nothing",
                    (layout.VERSION, uuid4().hex, datetime.now(UTC).replace(tzinfo=None)),
                )
        layouts = self._found()
        for name, columns in wanted.items():
            if layouts.get(name) != {column: self.type_names[kind] for column, kind in columns.items()}:
                raise CdwError(
                    f"table {name} has another layout than this version of cdw writes",
                    where=self.where,
                    do="load into another warehouse, or move that table out of the way",
                )
        with self._transaction():
            self._after_layout()

    def _check_version(self, is_told: bool) -> None:
        version = 1
        if is_told:
            ((version,),) = self.rows(f"select max(version) from {layout.LAYOUT}")  # noqa: S608
        if version != layout.VERSION:
            raise CdwError(
                f"the raw tables have layout {version}, this version of cdw writes layout {layout.VERSION}",
                where=self.where,
                do="run cdw migrate" if version < layout.VERSION else "use the newer version of cdw",
            )

    @property
    def warehouse_id(self) -> str:
        """What tells this warehouse from others; known once the layout is there."""
        ((warehouse_id,),) = self.rows(
            f"select min(warehouse_id) from {layout.LAYOUT}"  # noqa: S608 - our own names
        )
        return str(warehouse_id)

    def positions(self, cluster: str) -> list[Position]:
        """Where the partitions of a cluster stand."""
        with self._transaction():
            found = self._execute(
                f"select {', '.join(Position._fields)} from {layout.POSITIONS} "  # noqa: S608 - our own names
                "where cluster = %s",
                (cluster,),
            )
        return [Position(*row) for row in found]

    def begin(self, starts: Sequence[tuple[Partition, int]]) -> None:
        """Give partitions their first position, unless they have one."""
        with self._transaction():
            for partition, offset in starts:
                self._begin(partition, offset, datetime.now(UTC).replace(tzinfo=None))

    def _begin(self, partition: Partition, offset: int, at: datetime) -> None:
        self._execute(
            f"insert into {layout.POSITIONS} (cluster, topic, topic_id, partition, first_offset, "  # noqa: S608
            "next_offset, loader, updated_at) values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
            (*_key(partition), offset, offset, _loader(), at),
        )

    def loaded(self, partition: Partition) -> list[LoadedBatch]:
        """The batches of a partition, by first offset."""
        with self._transaction():
            found = self._execute(
                f"select {', '.join(LoadedBatch._fields)} from {layout.BATCHES} "  # noqa: S608 - our own names
                f"where {_WHERE} and kind = 'load' order by first_offset",
                _key(partition),
            )
        return [LoadedBatch(*row) for row in found]

    def load(self, batches: Sequence[Batch]) -> None:
        """Load batches in one transaction; see ``Warehouse.load``."""
        with self._transaction():
            # In one order everywhere, so that two loaders wait for each other and never in a ring.
            for batch in sorted(batches, key=lambda batch: _key(batch.partition)):
                # The position first: on Postgres its row lock makes a second loader wait here, not insert.
                self._move_position(batch)
                batch_id = self._insert_batch(batch)
                if batch.rows:
                    topic = batch.partition.topic
                    self._append(topic.qualified, layout.topic_columns(topic), _row_data(batch, batch_id))
                if batch.rejects:
                    rejects = layout.tables(())[layout.REJECTS]
                    self._append(layout.REJECTS, rejects, _reject_data(batch, batch_id))

    def _move_position(self, batch: Batch) -> None:
        key = _key(batch.partition)
        if batch.previous_sha256 is None:
            self._begin(batch.partition, batch.first_offset, batch.loaded_at)
        moved = self._execute(
            f"update {layout.POSITIONS} set next_offset = %s, sha256 = %s, loader = %s, "  # noqa: S608
            f"updated_at = %s where {_WHERE} and next_offset = %s returning next_offset",
            (batch.next_offset, batch.sha256, _loader(), batch.loaded_at, *key, batch.first_offset),
        )
        if len(moved) != 1:
            raise FencedError(
                "another loader moved the position; nothing of this batch was loaded",
                where=f"{batch.partition.words}, offset {batch.first_offset}, {self.where}",
                do="run one loader for a source at a time; run this one again to go on from there",
            )

    def _insert_batch(self, batch: Batch) -> int:
        columns = (
            "cluster, topic, topic_id, partition, first_offset, next_offset, row_count, reject_count, "
            "explained_count, byte_count, sha256, previous_sha256, loaded_at, kind"
        )
        inserted = self._execute(
            f"insert into {layout.BATCHES} ({columns}) "  # noqa: S608 - our own names
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) returning batch_id",
            (
                *_key(batch.partition),
                batch.first_offset,
                batch.next_offset,
                len(batch.rows),
                len(batch.rejects),
                batch.explained_count,
                batch.byte_count,
                batch.sha256,
                batch.previous_sha256,
                batch.loaded_at,
                batch.kind,
            ),
        )
        return int(inserted[0][0])


def _has_layout(found: Iterable[str]) -> bool:
    return {layout.POSITIONS, layout.BATCHES, layout.REJECTS} <= set(found)


def _loader() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _key(partition: Partition) -> tuple[str, str, str, int]:
    return partition.cluster, partition.topic.name, partition.topic_id, partition.number


def _sparse(cells: list[Cell]) -> Sequence[Cell] | None:
    """A column that is empty throughout as one NULL: a topic directory has three of them."""
    return None if cells.count(None) == len(cells) else cells


def _coordinates(batch: Batch, records: Sequence[Record], batch_id: int) -> dict[str, Sequence[Cell] | Cell]:
    partition = batch.partition
    return {
        "_topic": partition.topic.name,
        "_topic_id": partition.topic_id,
        "_partition": partition.number,
        "_offset": [record.offset for record in records],
        "_timestamp": _sparse([record.timestamp for record in records]),
        "_timestamp_type": _sparse([record.timestamp_type for record in records]),
        "_key": _sparse([record.key for record in records]),
        "_batch_id": batch_id,
        "_loaded_at": batch.loaded_at,
    }


def _digests(records: Sequence[Record]) -> list[Cell]:
    return [None if record.value is None else sha256(record.value).hexdigest() for record in records]


def _row_data(batch: Batch, batch_id: int) -> Data:
    data = _coordinates(batch, batch.rows, batch_id)
    data["_headers"] = _sparse([record.headers for record in batch.rows])
    values: list[Cell] = [record.value for record in batch.rows]
    if batch.partition.topic.is_restricted:
        return {**data, "sha256": _digests(batch.rows), "bytes": values}
    return {**data, "payload": values}


def _reject_data(batch: Batch, batch_id: int) -> Data:
    records = [reject.record for reject in batch.rejects]
    return {
        **_coordinates(batch, records, batch_id),
        "reason": [reject.reason for reject in batch.rejects],
        "bytes": [record.value for record in records],
        "sha256": _digests(records),
        "_headers": _sparse([record.headers for record in records]),
        "_key_bytes": _sparse([record.key_bytes for record in records]),
    }
