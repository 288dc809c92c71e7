"""A hospital loaded and built on both warehouses, once for all tests that look at the marts."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import DuckDB, Postgres, Warehouse
from tests.warehouse.hospital import Runner, make_topics


class Built(NamedTuple):
    warehouse: Warehouse
    runner: Runner


class Hospital(NamedTuple):
    topics: Path
    duckdb: Built
    postgres: Built


@pytest.fixture(scope="session")
def hospital(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: Postgres, profiles_dir: Path
) -> Iterator[Hospital]:
    """One topic directory loaded and built, with all tests, on DuckDB and on Postgres."""
    folder = tmp_path_factory.mktemp("hospital")
    postgres_server.run("create database hospital encoding 'UTF8' template template0")
    warehouses: list[Warehouse] = [
        DuckDB(folder / "warehouse.duckdb"),
        Postgres(postgres_server.host, postgres_server.port, postgres_server.user, "hospital"),
    ]
    topics = folder / "topics"
    built = []
    for warehouse in warehouses:
        own = folder / warehouse.target
        own.mkdir()
        runner = Runner(own, profiles_dir, {**warehouse.env, "CDW_TARGET": warehouse.target})
        if not topics.exists():
            make_topics(runner, topics)
        runner.load(topics)
        runner.dbt("build")
        built.append(Built(warehouse, runner))
    yield Hospital(topics, *built)
    postgres_server.run("drop database hospital with (force)")


@pytest.fixture(params=["duckdb", "postgres"])
def built(request: pytest.FixtureRequest, hospital: Hospital) -> Built:
    return hospital.duckdb if request.param == "duckdb" else hospital.postgres
