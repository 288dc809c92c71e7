"""A look into the EHR's Postgres, as the connector: what Kafka Connect itself does not tell.

A table that is missing, or that publishes half of its changes, is no failure to Debezium.
"""

import os
import re
from collections.abc import Iterator, Mapping

import psycopg

from loaders.connect.words import Words, in_words

_PLACEHOLDER = re.compile(r"\$\{env:(\w+)\}")
_SQL_FILE = "see deploy/connect/ehr.sql"

Config = Mapping[str, str]


def missing_variables(config: Config) -> list[str]:
    """The environment variables that a connector's settings name and that are not set here."""
    names = _PLACEHOLDER.findall(" ".join(config.values()))
    return sorted({name for name in names if name not in os.environ})


def find_problems(config: Config, *, is_registered: bool) -> Iterator[Words]:
    """What is wrong with the database that a Debezium connector for Postgres reads.

    ``${env:NAME}`` is read here as the worker reads it there: all such variables must be set.
    ``is_registered``: somebody should read the replication slot.
    """
    settings = {
        name: _PLACEHOLDER.sub(lambda found: os.environ[found[1]], text) for name, text in config.items()
    }
    try:
        with psycopg.connect(
            host=settings["database.hostname"],
            port=settings["database.port"],
            dbname=settings["database.dbname"],
            user=settings["database.user"],
            password=settings["database.password"],
            connect_timeout=10,
            application_name="cdw",
            autocommit=True,
        ) as connection:
            yield from _server_problems(connection)
            yield from _table_problems(connection, settings)
            yield from _slot_problems(connection, settings["slot.name"], is_registered=is_registered)
    except psycopg.Error as error:
        yield in_words(str(error))


def _server_problems(connection: psycopg.Connection) -> Iterator[Words]:
    row = connection.execute(
        "select current_setting('wal_level'), rolreplication or rolsuper from pg_roles "
        "where rolname = current_user"
    ).fetchone()
    assert row
    level, is_replicator = row
    if level != "logical":
        yield in_words("wal_level")
    if not is_replicator:
        yield in_words("REPLICATION role")


def _table_problems(connection: psycopg.Connection, settings: Config) -> Iterator[Words]:
    tables = settings["table.include.list"].split(",")
    columns = [name for name in settings.get("column.include.list", "").split(",") if name]
    publication = settings["publication.name"]
    published = {
        name
        for (name,) in connection.execute(
            "select schemaname || '.' || tablename from pg_publication_tables where pubname = %s",
            [publication],
        )
    }
    if not connection.execute("select 1 from pg_publication where pubname = %s", [publication]).fetchone():
        yield in_words(f"publication {publication} does not exist")
        published = set(tables)
    for table in tables:
        found = connection.execute(
            "select relreplident, has_table_privilege(oid, 'select'), "
            "array(select attname::text from pg_attribute where attrelid = oid and attnum > 0) "
            "from pg_class where oid = to_regclass(%s)",
            [table],
        ).fetchone()
        if found is None:
            yield Words(f"there is no table {table}", "mend table.include.list, or make the table")
            continue
        identity, is_readable, names = found
        if identity != "f":
            yield Words(
                f"changes of {table} do not carry the row before them (REPLICA IDENTITY is not FULL)",
                f"alter table {table} replica identity full; {_SQL_FILE}",
            )
        if not is_readable:
            yield Words(f"the connector's role may not read {table}", f"grant select on it; {_SQL_FILE}")
        if table not in published:
            yield Words(
                f"changes of {table} are not published",
                f"alter publication {publication} add table {table}",
            )
        asked = [name.rpartition(".")[2] for name in columns if name.startswith(f"{table}.")]
        if lost := [name for name in asked if name not in names]:
            yield Words(
                f"{table} has no column {', '.join(lost)}: the models read it as NULL",
                "give the table that column (a generated one, say), or publish a view's table in its place",
            )


def _slot_problems(connection: psycopg.Connection, slot: str, *, is_registered: bool) -> Iterator[Words]:
    row = connection.execute(
        "select active, wal_status from pg_replication_slots where slot_name = %s", [slot]
    ).fetchone()
    if row is None:
        yield Words(
            f"replication slot {slot} is not there: no change is kept for the connector",
            f"make it as deploy/connect/ehr.sql does, select pg_create_logical_replication_slot('{slot}', "
            "'pgoutput'); if the connector had one before, cdw connect snapshot NAME",
        )
        return
    is_active, status = row
    if status == "lost":
        yield in_words("invalidated")
    elif is_registered and not is_active:
        yield Words(
            f"nobody reads replication slot {slot}: changes pile up on the EHR's disk",
            "start the connector (cdw connect register), or drop the slot if it is gone for good",
        )
