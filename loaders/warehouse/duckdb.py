"""DuckDB: an embedded file, written by one process at a time."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import ClassVar

import duckdb
import pyarrow as pa

from loaders.errors import AwayError, CdwError, DataError
from loaders.profile import DuckdbTarget
from loaders.warehouse.layout import Columns, Type
from loaders.warehouse.protocol import Row
from loaders.warehouse.sql import SqlWarehouse
from loaders.warehouse.statements import Cell, Data

_ARROW: Mapping[Type, pa.DataType] = {
    "text": pa.string(),
    "json": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "timestamp": pa.timestamp("us"),
    "bytes": pa.binary(),
}
_MAGIC = b"DUCK"
_ROWS_A_FETCH = 1_000
# Other loaders hold the file for a batch: that is waited for here, and no news.
_LOCK_SECONDS = 2.0
_LOCK_PAUSE_SECONDS = 0.02


class DuckdbWarehouse(SqlWarehouse):
    """A DuckDB file, open as long as the object is in a ``with``."""

    types: ClassVar[Mapping[Type, str]] = {
        "text": "varchar",
        "json": "json",
        "int": "integer",
        "bigint": "bigint",
        "timestamp": "timestamp",
        "bytes": "blob",
    }
    type_names: ClassVar[Mapping[Type, str]] = {kind: name.upper() for kind, name in types.items()}
    catalog = (
        "select schema_name, table_name, column_name, data_type from duckdb_columns() "
        "where database_name = current_database() and schema_name in ('raw', 'raw_restricted') "
        "order by column_index"
    )

    def __init__(self, target: DuckdbTarget, *, read_only: bool = False) -> None:
        """Open nothing yet: the file is held for a transaction at a time, so that others get at it too."""
        self._target = target
        self._read_only = read_only
        self._connection: duckdb.DuckDBPyConnection | None = None

    def _open(self) -> duckdb.DuckDBPyConnection:
        target = self._target
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                connection = duckdb.connect(str(target.path), read_only=self._read_only)
                # A batch is not enough for two threads: they only cost, time and memory.
                for name, value in {"threads": "1", **target.settings}.items():
                    connection.execute(f"set {_identifier(name)} = {_literal(value)}")
            except duckdb.Error as error:
                if not _holder(error) or time.monotonic() > until:
                    raise _cannot_open(target, error, self._read_only) from None
                time.sleep(_LOCK_PAUSE_SECONDS)
            else:
                return connection

    @property
    def where(self) -> str:
        """The warehouse in words for messages."""
        return self._target.where

    def _close(self) -> None:
        """Nothing to do: a transaction closes the file."""

    def _execute(self, sql: str, parameters: Sequence[Cell] = ()) -> list[Row]:
        assert self._connection
        return self._connection.execute(sql.replace("%s", "?"), list(parameters)).fetchall()

    def _stream(self, sql: str, parameters: Sequence[Cell] = ()) -> Iterator[Row]:
        assert self._connection
        result = self._connection.execute(sql.replace("%s", "?"), list(parameters))
        while rows := result.fetchmany(_ROWS_A_FETCH):
            yield from rows

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._open() as self._connection:
                self._connection.begin()
                try:
                    yield
                except BaseException:
                    with suppress(duckdb.Error):  # a broken file has nothing to roll back
                        self._connection.rollback()
                    raise
                self._connection.commit()
        except duckdb.Error as error:
            raise _refused(self._target, error) from None

    def _append(self, table: str, columns: Columns, data: Data) -> None:
        height = max(len(cells) for cells in data.values() if isinstance(cells, list))
        arrays = [
            pa.array(data[name], _ARROW[kind])
            if isinstance(data[name], list)
            else pa.repeat(pa.scalar(data[name], _ARROW[kind]), height)
            for name, kind in columns.items()
        ]
        assert self._connection
        self._connection.register("incoming", pa.table(arrays, names=list(columns)))
        self._connection.execute(f"insert into {table} by name select * from incoming")  # noqa: S608
        self._connection.unregister("incoming")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _holder(error: duckdb.Error) -> str | None:
    """The process id of who holds the file's lock, of an error that says so."""
    found = re.search(r"lock.*\(PID (\d+)\)", str(error), re.DOTALL)
    return found[1] if found else None


def _cannot_open(target: DuckdbTarget, error: duckdb.Error, read_only: bool) -> CdwError:
    """Say why in our words; of the driver's text only the process id of a lock's holder is taken."""
    path = target.path.absolute()
    if holder := _holder(error):
        return AwayError(
            f"the DuckDB file is locked by another process (PID {holder})",
            where=str(path),
            do="wait for it to end, or close what has the file open",
        )
    if not path.parent.is_dir():
        return CdwError(
            "the folder of the DuckDB file does not exist",
            where=str(path.parent),
            do="create it, or set CDW_DUCKDB_PATH to a file in a folder that exists",
        )
    if not path.exists() and read_only:
        return CdwError(
            "there is no DuckDB file here yet",
            where=str(path),
            do="load something first (cdw load --from DIR), or set CDW_DUCKDB_PATH to another file",
        )
    try:
        if path.exists():
            with path.open("rb") as file:
                if file.read(12)[8:] != _MAGIC:
                    return CdwError(
                        "this file is not a DuckDB database",
                        where=str(path),
                        do="set CDW_DUCKDB_PATH to another file, or move this one away",
                    )
    except OSError:
        pass
    # A disk that is full or read-only is an IOException here.
    kind = AwayError if isinstance(error, duckdb.IOException) else CdwError
    return kind(
        f"the DuckDB file cannot be opened ({type(error).__name__})",
        where=str(path),
        do="see that it is a file which you may read and write, in a folder where you may create files, and "
        "that the settings of the target are ones DuckDB knows",
    )


# What a record can bring about, whatever the state of the warehouse.
_DATA_ERRORS = (
    duckdb.ConversionException,
    duckdb.ConstraintException,
    duckdb.InvalidInputException,
    duckdb.OutOfRangeException,
    duckdb.TypeMismatchException,
)


def _refused(target: DuckdbTarget, error: duckdb.Error) -> CdwError:
    kind = type(error).__name__
    # A commit that cannot be written is a TransactionException, and what follows it a FatalException.
    if isinstance(error, duckdb.IOException | duckdb.TransactionException | duckdb.FatalException):
        return AwayError(
            "DuckDB could not read or write its file; what was not loaded yet is not",
            where=target.where,
            do="see that the disk has room and the file may be written, then run the same command again",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return CdwError(
            "DuckDB ran out of memory; what was not loaded yet is not",
            where=target.where,
            do="raise CDW_DUCKDB_MEMORY, or lower CDW_BATCH_BYTES, then run the same command again",
        )
    if isinstance(error, _DATA_ERRORS):
        return DataError(
            f"DuckDB refused a record ({kind}); what was not loaded yet is not",
            where=target.where,
            do="run the same command again; if it fails again, report it with this message",
            reason=f"E_WAREHOUSE_{kind.removesuffix('Exception').upper()}",
        )
    return CdwError(
        f"DuckDB refused a statement ({kind}); what was not loaded yet is not",
        where=target.where,
        do="run the same command again; if it fails again, report it with this message",
    )
