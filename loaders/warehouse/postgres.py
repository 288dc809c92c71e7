"""Postgres: binary COPY, which takes the JSON bytes as they are."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import ClassVar, cast

import psycopg

from loaders.errors import AwayError, CdwError, DataError
from loaders.profile import PostgresTarget
from loaders.warehouse import layout
from loaders.warehouse.layout import Columns, Type
from loaders.warehouse.protocol import Row
from loaders.warehouse.sql import SqlWarehouse
from loaders.warehouse.statements import Cell, Data

# One lock for the layout: two loaders that start at once would both create it.
_LAYOUT_LOCK = 6_382_011
# One for what changes rows that are there: cdw migrate, cdw purge, cdw replay.
_MAINTENANCE_LOCK = 6_382_012
_READER_OF_COUNTS = "cdw_transform"
# What binary COPY calls our types. JSON is bytes like others on the wire; it is Postgres that reads it.
_WIRE: Mapping[Type, str] = {
    "text": "text",
    "json": "bytea",
    "int": "int4",
    "bigint": "int8",
    "timestamp": "timestamp",
    "bytes": "bytea",
}
# A rejected record may have megabytes.
_ROWS_A_FETCH = 50
# Nothing may hold the rows of another loader for long: not a lock that we wait for, and not we ourselves when
# this process is stopped in the middle of a transaction.
_OPTIONS = (
    "-c timezone=UTC -c lock_timeout=5s -c idle_in_transaction_session_timeout=15s -c statement_timeout=1min"
)


class PostgresWarehouse(SqlWarehouse):
    """A Postgres database, connected as long as the object is in a ``with``."""

    types: ClassVar[Mapping[Type, str]] = {
        "text": "text",
        "json": "json",
        "int": "integer",
        "bigint": "bigint",
        "timestamp": "timestamp",
        "bytes": "bytea",
    }
    type_names: ClassVar[Mapping[Type, str]] = {**types, "timestamp": "timestamp without time zone"}
    # Not information_schema: that leaves out what this user may not read, as if it were not there.
    catalog = (
        "select n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a "
        "join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname in ('raw', 'raw_restricted') and c.relkind in ('r', 'p') "
        "and a.attnum > 0 and not a.attisdropped order by a.attnum"
    )

    def __init__(self, target: PostgresTarget, *, read_only: bool = False) -> None:
        """Connect with the first transaction, and again after a connection was lost."""
        self._target = target
        self._options = _OPTIONS + " -c default_transaction_read_only=on" * read_only
        self._connected: psycopg.Connection | None = None
        self._is_maintenance = False

    @property
    def _connection(self) -> psycopg.Connection:
        assert self._connected
        return self._connected

    def _connect(self) -> psycopg.Connection:
        target = self._target
        try:
            return psycopg.connect(
                host=target.host,
                port=target.port,
                user=target.user,
                password=target.password or None,
                dbname=target.dbname,
                connect_timeout=10,
                # A server that is gone without a word: found out in half a minute, not in hours.
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=30_000,
                application_name="cdw",
                client_encoding="utf8",
                options=self._options,
                autocommit=True,
            )
        except psycopg.Error as error:
            raise _cannot_connect(target, error) from None

    @property
    def where(self) -> str:
        """The warehouse in words for messages."""
        return self._target.where

    def _close(self) -> None:
        if self._connected:
            self._connected.close()

    def _execute(self, sql: str, parameters: Sequence[Cell] = ()) -> list[Row]:
        cursor = self._connection.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def _stream(self, sql: str, parameters: Sequence[Cell] = ()) -> Iterator[Row]:
        with self._connection.cursor("cdw_stream") as cursor:
            cursor.itersize = _ROWS_A_FETCH
            cursor.execute(sql, parameters or None)
            yield from cursor

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._connected is None or self._connected.closed:
            self._connected = self._connect()
        self._is_maintenance = False
        try:
            with self._connection.transaction():
                yield
        except psycopg.errors.LockNotAvailable:
            raise self._locked() from None
        except psycopg.Error as error:
            raise _refused(self._target, error) from None

    def _locked(self) -> AwayError:
        """Say who holds a lock on the raw tables: applications and process ids, no statement of theirs."""
        # Who only reads is in nobody's way, but for a maintenance that alters the table.
        modes = "" if self._is_maintenance else "and l.mode <> 'AccessShareLock' "
        try:
            found = self._connection.execute(
                "select distinct a.pid, a.application_name from pg_locks l "  # noqa: S608 - our own words
                "join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace "
                "join pg_stat_activity a on a.pid = l.pid and a.datname = current_database() "
                f"where l.granted {modes}and a.pid <> pg_backend_pid() "
                "and n.nspname in ('raw', 'raw_restricted') order by 1"
            ).fetchall()
        except psycopg.Error:  # the connection may be lost by now: that is told when it is needed again
            found = []
        holders = ", ".join(f"PID {pid} ({application or 'unnamed'})" for pid, application in found)
        undone = "this step was not done" if self._is_maintenance else "what was not loaded yet is not"
        return AwayError(
            f"a raw table is locked by {holders or 'another session'}; {undone}",
            where=self.where,
            do="wait for it to end; select pg_terminate_backend(PID) ends one that is stuck",
        )

    def _before_maintenance(self) -> None:
        # What is counted is what is deleted, whatever loaders commit meanwhile; and it may take its time.
        self._execute("set transaction isolation level repeatable read")
        self._execute("set local statement_timeout = 0")
        # It may also think between two statements, while it decodes or asks a schema registry.
        self._execute("set local idle_in_transaction_session_timeout = 0")
        self._is_maintenance = True
        if self._execute("select pg_try_advisory_xact_lock(%s)", (_MAINTENANCE_LOCK,)) == [(True,)]:
            return
        holders = self._execute(
            "select l.pid from pg_locks l join pg_database d on d.oid = l.database where l.granted "
            "and l.locktype = 'advisory' and l.classid = 0 and l.objid = %s "
            "and d.datname = current_database()",
            (_MAINTENANCE_LOCK,),
        )
        raise AwayError(
            f"another maintenance of this warehouse is under way "
            f"(server process {', '.join(str(pid) for (pid,) in holders) or 'unknown'}); nothing was done",
            where=self.where,
            do="wait for it to end, then run the same command again",
        )

    def _before_layout(self) -> None:
        self._execute("select pg_advisory_xact_lock(%s)", (_LAYOUT_LOCK,))
        if self._execute("show server_encoding") != [("UTF8",)]:
            raise CdwError(
                "the database's encoding is not UTF8, so it cannot hold every record",
                where=self.where,
                do="create a database with encoding UTF8 and load into that",
            )

    def _after_layout(self) -> None:
        """Let dbt count, and only count, what stands in the restricted tables, where its role is used."""
        for table in self._uncountable():
            present = [column for column in layout.COUNTABLE if table == layout.REJECTS or column != "reason"]
            self._execute(f"grant select ({', '.join(present)}) on {table} to {_READER_OF_COUNTS}")

    def _uncountable(self) -> list[str]:
        found = self._execute(
            "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace "
            "join pg_roles r on r.rolname = %s where n.nspname = %s and c.relkind = 'r' "
            "and c.relowner = (select oid from pg_roles where rolname = current_user) "
            "and not has_column_privilege(r.oid, c.oid, '_offset', 'select')",
            (_READER_OF_COUNTS, layout.SCHEMAS[1]),
        )
        return [row[0] for row in found]

    def _append(self, table: str, columns: Columns, data: Data) -> None:
        statement = f"copy {table} ({', '.join(columns)}) from stdin (format binary)"
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([_WIRE[kind] for kind in columns.values()])
            for row in _rows(columns, data):
                copy.write_row(row)


def _rows(columns: Columns, data: Data) -> Iterator[tuple[Cell, ...]]:
    height = max(len(cells) for cells in data.values() if isinstance(cells, list))
    cells: list[Iterable[Cell]] = []
    for name, kind in columns.items():
        column = data[name]
        if not isinstance(column, list):
            cells.append(repeat(cast(Cell, column), height))
        elif kind == "json":
            cells.append(cell.encode() if isinstance(cell, str) else cell for cell in column)
        else:
            cells.append(column)
    return zip(*cells, strict=True)


def _cannot_connect(target: PostgresTarget, error: psycopg.Error) -> CdwError:
    """Say why in our words; the server's text is looked at, never shown."""
    text = str(error)
    if re.search(r"authentication failed|no password supplied|role .* does not exist|pg_hba", text):
        return CdwError(
            "Postgres refuses this user or password",
            where=target.where,
            do="check user and password of the target (PGUSER, PGPASSWORD)",
        )
    if re.search(r"database .* does not exist", text):
        return CdwError(
            "this Postgres has no such database",
            where=target.where,
            do="create it, or name another one (PGDATABASE)",
        )
    return AwayError(
        "Postgres cannot be reached",
        where=target.where,
        do="see that it runs and takes connections there (PGHOST, PGPORT)",
    )


# SQLSTATE or its class -> what happened, what to do, whether it passes by itself.
_STATES = {
    "42501": (
        "this Postgres user lacks a right",
        "connect as cdw_loader after running deploy/postgres/roles.sql, or as the owner of schema raw",
        False,
    ),
    "53100": ("the Postgres server's disk is full", "free some room there", True),
    "25006": ("this Postgres is read-only", "connect to the primary server", True),
    "25P03": ("this process stood still in a transaction", "see what stopped it", True),
    "40": ("Postgres ended the transaction in favour of another", "see what else writes there", True),
    "53": ("the Postgres server is out of resources", "wait for it to be less busy", True),
    "57": ("the Postgres server ended the connection", "see that it runs", True),
    "58": ("the Postgres server cannot read or write its files", "see to its disk", True),
    "08": ("the connection to Postgres was lost", "see that it runs and can be reached", True),
}
# Classes of SQLSTATE that a record can bring about, whatever the state of the warehouse: data exceptions,
# and limits exceeded.
_DATA_STATES = ("22", "54")


def _refused(target: PostgresTarget, error: psycopg.Error) -> CdwError:
    state = error.sqlstate or ("08000" if isinstance(error, psycopg.OperationalError) else "unknown")
    what, do, is_passing = (
        _STATES.get(state)
        or _STATES.get(state[:2])
        or (
            f"Postgres refused a statement (SQLSTATE {state})",
            "if it fails again, report it with this message",
            False,
        )
    )
    what, do = f"{what}; what was not loaded yet is not", f"{do}; then run the same command again"
    if state[:2] in _DATA_STATES:
        return DataError(what, where=target.where, do=do, reason=f"E_WAREHOUSE_{state}")
    return (AwayError if is_passing else CdwError)(what, where=target.where, do=do)
