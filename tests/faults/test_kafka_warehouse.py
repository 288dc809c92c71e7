"""The warehouse is away, full, locked, read-only, or older: the loader waits, and rejects nothing."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from tests.conftest import PROJECT, DuckDB, use
from tests.faults.ledger import leaks
from tests.faults.loader import Loader
from tests.faults.scene import Scene
from tests.parts.postgres import Server
from tests.parts.process import wait_until


@contextmanager
def loading(scene: Scene) -> Iterator[Loader]:
    """A loader that has loaded something, meets a fault, and loads the rest once that is over."""
    scene.feed.mixture(100)
    loader = scene.start()
    scene.wait_until_loaded(loader)
    yield loader
    scene.feed.mixture(100)
    scene.wait_until_loaded(loader)
    assert "resumed" in loader.words
    loader.stop()
    assert scene.faults() == []
    assert not scene.warehouse.rows(
        "select 1 from raw_restricted.rejected_records where reason like 'E_WAREHOUSE%'"
    )


def test_postgres_restarts(own_scene: Scene, own_postgres: Server) -> None:
    with loading(own_scene) as loader:
        own_postgres.stop()
        own_scene.feed.mixture(100)
        loader.wait_for("Postgres cannot be reached")
        own_postgres.start()


def test_postgres_is_read_only(own_scene: Scene, own_postgres: Server) -> None:
    with loading(own_scene) as loader:
        own_postgres.run("alter system set default_transaction_read_only = on", "select pg_reload_conf()")
        own_scene.feed.mixture(100)
        loader.wait_for("this Postgres is read-only")
        with own_postgres.connect() as connection:
            connection.execute("set default_transaction_read_only = off")
            connection.execute("alter system reset default_transaction_read_only")
            connection.execute("select pg_reload_conf()")


def test_a_table_of_postgres_is_locked(own_scene: Scene, own_postgres: Server) -> None:
    with loading(own_scene) as loader, own_postgres.connect() as other:
        other.execute("set application_name = 'nightly report'")
        with other.transaction():
            other.execute("lock table raw.device_telemetry in access exclusive mode")
            own_scene.feed.mixture(100)
            loader.wait_for(f"a raw table is locked by PID {other.info.backend_pid} (nightly report)")


@contextmanager
def small_disk(owner: int) -> Iterator[Path]:
    """A disk of 32 MB for a user; only root may mount one."""
    # Not in pytest's folder: that is closed to other users.
    with tempfile.TemporaryDirectory(prefix="cdw-disk-") as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size=32m,uid={owner},mode=700", "tmpfs", folder],
            check=False,
            stderr=subprocess.DEVNULL,
        )
        if mounted.returncode:
            pytest.skip("needs the right to mount a file system")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Nothing more goes onto this disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    yield
    ballast.unlink()


def test_the_disk_of_postgres_is_full(own_scene: Scene, own_postgres: Server) -> None:
    name = own_postgres.dbname
    [(data,)] = own_postgres.rows("show data_directory")
    with small_disk(Path(data).stat().st_uid) as disk, own_postgres.connect("postgres") as admin:
        admin.execute(f"create tablespace small location '{disk}'")
        admin.execute(f"alter database {name} set tablespace small")
        with loading(own_scene) as loader, full(disk):
            own_scene.feed.produce(2_000)
            loader.wait_for("the Postgres server's disk is full")
        admin.execute(f"alter database {name} set tablespace pg_default")
        admin.execute("drop tablespace small")


@pytest.fixture
def small_scene(
    make_scene: Callable[..., Scene], profiles_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Scene, Path]]:
    """A scene on DuckDB with a disk of its own."""
    with small_disk(os.getuid()) as disk:
        warehouse = DuckDB(disk / "warehouse.duckdb")
        use(warehouse, profiles_dir, monkeypatch)
        yield make_scene(warehouse), disk


def test_the_disk_of_duckdb_is_full(small_scene: tuple[Scene, Path]) -> None:
    scene, disk = small_scene
    with loading(scene) as loader, full(disk):
        scene.feed.produce(2_000)
        loader.wait_for("DuckDB could not read or write its file")


def test_the_disk_of_duckdb_is_read_only(small_scene: tuple[Scene, Path]) -> None:
    scene, disk = small_scene
    with loading(scene) as loader:
        # As a kernel does after an error of the disk.
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        scene.feed.mixture(100)
        loader.wait_for("waiting")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def test_another_process_holds_duckdb(duckdb_scene: Scene) -> None:
    with loading(duckdb_scene) as loader, opened(duckdb_scene):
        duckdb_scene.feed.mixture(100)
        loader.wait_for(f"the DuckDB file is locked by another process (PID {os.getpid()})")


@contextmanager
def opened(scene: Scene) -> Iterator[duckdb.DuckDBPyConnection]:
    """The DuckDB file, held open by this process as soon as a loader lets go of it."""
    connections: list[duckdb.DuckDBPyConnection] = []

    def is_open() -> bool:
        try:
            connections.append(duckdb.connect(scene.warehouse.env["CDW_DUCKDB_PATH"]))
        except duckdb.IOException:
            return False
        return True

    wait_until(is_open, "the DuckDB file is free for a moment")
    with connections[0]:
        yield connections[0]


def test_a_writer_and_a_reader_beside_the_loader(duckdb_scene: Scene) -> None:
    loader = duckdb_scene.start()
    loader.wait_for("\nplaced ")
    for number in range(5):
        duckdb_scene.feed.mixture(100)
        with opened(duckdb_scene) as build:
            # As dbt does: a mart made anew from raw.
            build.execute("create or replace table mart as select count(*) as n from raw.device_telemetry")
            time.sleep(0.3 * (number % 2))
    duckdb_scene.feed.mixture(100)
    duckdb_scene.wait_until_loaded(loader)
    loader.stop()
    assert duckdb_scene.faults() == []
    assert duckdb_scene.warehouse.rows("select n > 0 from mart") == [(True,)]


def test_an_older_snapshot_of_duckdb_is_restored(duckdb_scene: Scene) -> None:
    file = Path(duckdb_scene.warehouse.env["CDW_DUCKDB_PATH"])
    snapshot = file.with_suffix(".snapshot")
    duckdb_scene.feed.mixture(200)
    duckdb_scene.loaders.finish()
    shutil.copy(file, snapshot)
    duckdb_scene.feed.mixture(200)
    loader = duckdb_scene.start()
    duckdb_scene.wait_until_loaded(loader)
    # While the loader runs: its next transaction finds the older file.
    with opened(duckdb_scene):
        older = file.with_suffix(".older")
        shutil.copy(snapshot, older)
        older.rename(file)
    duckdb_scene.feed.mixture(200)
    loader.wait_for("fenced")
    duckdb_scene.wait_until_loaded(loader)
    loader.stop()
    assert duckdb_scene.faults() == []
    # While no loader runs.
    shutil.copy(snapshot, file)
    duckdb_scene.finish()


def test_an_older_snapshot_of_postgres_is_restored(own_scene: Scene, own_postgres: Server) -> None:
    name = own_postgres.dbname
    own_scene.feed.mixture(200)
    own_scene.loaders.finish()
    with own_postgres.connect("postgres") as admin:
        admin.execute(f"create database {name}_older template {name}")
    own_scene.feed.mixture(200)
    loader = own_scene.start()
    own_scene.wait_until_loaded(loader)
    with own_postgres.connect("postgres") as admin:
        admin.execute(f"alter database {name} allow_connections false")
        admin.execute(
            f"select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{name}'"
        )
        with admin.transaction():
            admin.execute(f"alter database {name} rename to {name}_newer")
            admin.execute(f"alter database {name}_older rename to {name}")
        admin.execute(f"drop database {name}_newer")
    own_scene.feed.mixture(200)
    loader.wait_for("resumed")
    own_scene.wait_until_loaded(loader)
    loader.stop()
    assert own_scene.faults() == []


REFUSAL = """
create function refuse() returns trigger language plpgsql as $$
begin
    if new.payload::text like '%"sequence": %7,%' then
        perform left(new.payload::text, -1)::json;  -- the server's words quote what they refuse
    end if;
    return new;
end $$
"""


def test_what_only_postgres_refuses_is_found_alone(own_scene: Scene, own_postgres: Server) -> None:
    own_scene.feed.mixture(100)
    own_scene.finish()
    roles = (PROJECT / "deploy/postgres/roles.sql").read_text(encoding="utf-8")
    own_postgres.run(roles, f"alter role cdw_loader password '{own_postgres.password}'", REFUSAL)
    own_postgres.run(
        "create trigger refuse before insert on raw.device_telemetry for each row execute function refuse()"
    )
    log = own_postgres.output.read_text()
    own_scene.feed.mixture(500)
    assert own_scene.start("--once", PGUSER="cdw_loader").wait() == 0
    assert own_scene.faults() == []
    refused = own_postgres.rows(
        "select convert_from(bytes, 'utf8') like '%7,%' from raw_restricted.rejected_records "
        "where reason = 'E_WAREHOUSE_22P02'"
    )
    assert len(refused) > 10
    assert set(refused) == {(True,)}
    more = own_postgres.output.read_text().removeprefix(log)
    assert "ERROR:  invalid input syntax for type json" in more
    assert not leaks(more), "nor may the server say what it refused"


def test_what_only_duckdb_refuses_is_found_alone(duckdb_scene: Scene) -> None:
    duckdb_scene.feed.mixture(100)
    duckdb_scene.finish()
    ((table,),) = duckdb_scene.warehouse.rows(
        "select sql from duckdb_tables() where table_name = 'device_telemetry'"
    )
    duckdb_scene.warehouse.run(
        "alter table raw.device_telemetry rename to loaded",
        table.rstrip(";)") + """, check (payload::varchar not like '%"sequence": %7,%'))""",
        "insert into raw.device_telemetry select * from raw.loaded where false",
    )
    duckdb_scene.feed.mixture(500)
    duckdb_scene.loaders.finish()
    refused = duckdb_scene.warehouse.rows(
        "select decode(bytes) like '%7,%' from raw_restricted.rejected_records "
        "where reason = 'E_WAREHOUSE_CONSTRAINT'"
    )
    duckdb_scene.warehouse.run(
        "create table raw.both as from raw.loaded union all by name from raw.device_telemetry",
        "drop table raw.device_telemetry",
        "alter table raw.both rename to device_telemetry",
    )
    assert duckdb_scene.faults() == []
    assert len(refused) > 10
    assert set(refused) == {(True,)}
