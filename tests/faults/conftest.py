"""Scenes of tests, each on its warehouse; at its end, nothing may have been said that a record held."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import DuckDB, Postgres, Warehouse, use
from tests.faults import scene as scenes
from tests.faults.ledger import leaks
from tests.faults.scene import Scene
from tests.parts.kafka import Cluster
from tests.parts.postgres import Server


@pytest.fixture
def make_scene(
    kafka: Cluster, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Scene]]:
    """Makes the scene of a test; at its end, nothing that a loader said may hold a word of a record."""
    made: list[Scene] = []

    def make(
        warehouse: Warehouse,
        protocol: str = "classic",
        bootstrap: str | None = None,
        cluster: Cluster = kafka,
    ) -> Scene:
        env = scenes.loader_env(bootstrap or cluster.bootstrap, tmp_path, protocol)
        made.append(scenes.make_scene(warehouse, cluster, env, tmp_path, request.node.name))
        return made[-1]

    yield make
    for scene in made:
        scene.loaders.end()
        assert not leaks(scene.loaders.words())


@pytest.fixture
def scene(make_scene: Callable[..., Scene], warehouse: Warehouse) -> Scene:
    """A scene on each kind of warehouse in turn."""
    return make_scene(warehouse)


@pytest.fixture
def duckdb_scene(
    make_scene: Callable[..., Scene], duckdb_path: Path, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    """A scene on DuckDB."""
    warehouse = DuckDB(duckdb_path)
    use(warehouse, profiles_dir, monkeypatch)
    return make_scene(warehouse)


@pytest.fixture
def postgres_scene(
    make_scene: Callable[..., Scene], postgres: Postgres, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    """A scene on Postgres."""
    use(postgres, profiles_dir, monkeypatch)
    return make_scene(postgres)


@pytest.fixture
def own_scene(
    make_scene: Callable[..., Scene],
    own_postgres: Server,
    profiles_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    """A scene on a Postgres that the test may harm."""
    use(own_postgres, profiles_dir, monkeypatch)
    return make_scene(own_postgres)
