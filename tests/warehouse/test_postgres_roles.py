"""deploy/postgres/roles.sql: what each role can do, and what it cannot."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from loaders.errors import CdwError
from loaders.load import load_directory
from loaders.migrate import migrate
from loaders.patients import Identifier
from loaders.profile import find_target
from loaders.purge import before, naming, purge
from loaders.replay.choice import Choice
from loaders.replay.run import replay
from loaders.status import read_status
from loaders.warehouse.layout import VERSION
from tests.conftest import PROJECT, Postgres, use

ROLES = (PROJECT / "deploy/postgres/roles.sql").read_text(encoding="utf-8")
LINES = b'{"device_id":"SECRET-1"}\nSECRET-2\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "device.telemetry.jsonl").write_bytes(LINES)
    return folder


@pytest.fixture
def as_role(
    postgres: Postgres, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], psycopg.Connection]:
    """Makes a role the user of the default target, and connects as it."""

    def switch(role: str) -> psycopg.Connection:
        use(postgres, profiles_dir, monkeypatch)
        monkeypatch.setenv("PGUSER", role)
        return postgres.connect(role)

    return switch


Switch = Callable[[str], psycopg.Connection]


def refused(connection: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


def test_loader_loads_and_nothing_else(postgres: Postgres, source: Path, as_role: Switch) -> None:
    postgres.run(ROLES, ROLES)
    with as_role("cdw_loader") as loader:
        load_directory(source)
        with (source / "device.telemetry.jsonl").open("ab") as file:
            file.write(b"{}\n")
        assert load_directory(source).rows == {"device.telemetry": 1}
        refused(loader, "create table core.t (i int)", "create schema other")
    assert postgres.rows("select count(*) from raw.device_telemetry") == [(2,)]


def test_loader_alone_purges_and_replays(postgres: Postgres, source: Path, as_role: Switch) -> None:
    postgres.run(ROLES)
    as_role("cdw_loader").close()
    load_directory(source)
    everything = before(datetime(2999, 1, 1, tzinfo=UTC), PROJECT)
    again = Choice(since=datetime(2000, 1, 1, tzinfo=UTC))
    as_role("cdw_transform").close()
    for attempt in (lambda: purge(find_target(), PROJECT, everything), lambda: replay(find_target(), again)):
        with pytest.raises(CdwError, match="lacks a right"):
            attempt()
    as_role("cdw_loader").close()
    assert migrate(find_target()) == (VERSION, VERSION)
    assert replay(find_target(), again).still_rejected == 1
    assert purge(find_target(), PROJECT, naming(Identifier("EHR", "SECRET"), PROJECT)).rejects
    assert purge(find_target(), PROJECT, everything).rows == {"device.telemetry": 1}


def test_transform_reads_raw_and_counts_restricted(postgres: Postgres, source: Path, as_role: Switch) -> None:
    postgres.run(ROLES)
    as_role("cdw_loader").close()
    load_directory(source)
    with as_role("cdw_transform") as transform:
        assert transform.execute("select payload->>'device_id' from raw.device_telemetry").fetchall()
        assert transform.execute(
            "select _topic, reason, _loaded_at is not null, count(*) from raw_restricted.rejected_records "
            "group by 1, 2, 3"
        ).fetchall() == [("device.telemetry", "E_NOT_JSON", True, 1)]
        assert transform.execute("select count(*) from raw_restricted.hl7_originals").fetchall() == [(0,)]
        assert transform.execute("select _offset from raw_restricted.hl7_originals").fetchall() == []
        refused(
            transform,
            "select bytes from raw_restricted.rejected_records",
            "select sha256 from raw_restricted.rejected_records",
            "select _key from raw_restricted.rejected_records",
            "select * from raw_restricted.rejected_records",
            "select bytes from raw_restricted.hl7_originals",
            "insert into raw.device_telemetry (_offset) values (1)",
            "update raw.load_positions set next_offset = 0",
            "delete from raw.load_batches",
            "truncate raw.device_telemetry",
            "create table raw.t (i int)",
        )
        [partition] = read_status(find_target()).partitions or []
        assert (partition.rows, partition.rejects) == (1, {"E_NOT_JSON": 1})
        (source / "hl7.messages.jsonl").write_bytes(b"{}\n")
        with pytest.raises(CdwError, match="lacks a right"):
            load_directory(source)


def test_reader_reads_marts_only_also_those_built_later(
    postgres: Postgres, source: Path, as_role: Switch
) -> None:
    postgres.run(ROLES)
    as_role("cdw_loader").close()
    load_directory(source)
    marts = ("core", "monitoring", "vitals", "operations")
    with as_role("cdw_transform") as transform:
        for schema in (*marts, "staging", "intermediate", "reference"):
            transform.execute(f"create table {schema}.t as select payload from raw.device_telemetry")
            transform.execute(f"create view {schema}.v as select payload from raw.device_telemetry")
    with as_role("cdw_reader") as reader:
        for schema in marts:
            assert reader.execute(f"select payload::text from {schema}.t").fetchall()
            assert reader.execute(f"select payload::text from {schema}.v").fetchall()
            refused(
                reader, f"delete from {schema}.t", f"drop table {schema}.t", f"create table {schema}.x ()"
            )
        refused(
            reader,
            "select count(*) from raw.device_telemetry",
            "select count(*) from raw.load_batches",
            "select count(*) from raw_restricted.rejected_records",
            "select * from staging.t",
            "select * from intermediate.t",
            "select * from reference.t",
        )
        for attempt in (lambda: read_status(find_target()), lambda: load_directory(source)):
            with pytest.raises(CdwError, match="lacks a right"):
                attempt()


def test_roles_take_over_a_warehouse_in_use(postgres: Postgres, source: Path, as_role: Switch) -> None:
    as_role("postgres").close()
    load_directory(source)
    postgres.run(
        "create schema core", "create view core.v as select payload from raw.device_telemetry", ROLES
    )
    with (source / "device.telemetry.jsonl").open("ab") as file:
        file.write(b"{}\n")
    as_role("cdw_loader").close()
    assert load_directory(source).rows == {"device.telemetry": 1}
    with as_role("cdw_transform") as transform:
        assert transform.execute("select count(*) from raw_restricted.rejected_records").fetchall() == [(1,)]
        transform.execute("drop view core.v")
    with as_role("cdw_reader") as reader:
        refused(reader, "select * from raw_restricted.rejected_records")
