"""A broker with records, loaders of it, and the ledger that tells whether all is well."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import DuckDB, Postgres, Warehouse, use
from tests.faults.ledger import ORIGINALS, TELEMETRY, Fault, Feed, Ledger, leaks
from tests.faults.loader import Loader, Loaders
from tests.parts.kafka import Cluster
from tests.parts.postgres import Server

PARTITIONS = 3

# Small and quick, so that a second of a test is an hour of a hospital.
SETTINGS: Mapping[str, str] = {"CDW_BATCH_RECORDS": "50", "CDW_BATCH_SECONDS": "0.1"}
_CLASSIC = "session.timeout.ms=1000\nheartbeat.interval.ms=200\n"
_CLIENT = "topic.metadata.refresh.interval.ms=300\nreconnect.backoff.max.ms=500\n"


def loader_env(kafka: str, folder: Path, protocol: str = "classic") -> dict[str, str]:
    """The settings of loaders at a broker; ``folder`` takes a file of properties."""
    file = folder / f"{protocol}.properties"
    file.write_text(_CLIENT + _CLASSIC * (protocol == "classic"))
    return {
        **SETTINGS,
        "CDW_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "CDW_KAFKA_CONFIG": str(file),
        "CDW_KAFKA_GROUP_PROTOCOL": protocol,
    }


@dataclass(frozen=True)
class Scene:
    """A warehouse, a broker, a feed into it, loaders between them."""

    warehouse: Warehouse
    kafka: Cluster
    ledger: Ledger
    feed: Feed
    loaders: Loaders

    def start(self, *arguments: str, harm: str = "none", **env: object) -> Loader:
        return self.loaders.start(*arguments, harm=harm, **env)

    def faults(self, *, is_complete: bool = True) -> list[Fault]:
        """What is amiss in the warehouse, which no loader may have open."""
        return self.ledger.faults(self.warehouse, is_complete=is_complete)

    def finish(self) -> None:
        """Load what is left; all is in the warehouse then, once, and nowhere else."""
        self.loaders.finish()
        assert self.faults() == []

    def wait_until_loaded(self, *loaders: Loader) -> None:
        """Wait until these loaders have between them committed all that Kafka has."""
        ends = {
            (topic, partition): end
            for topic in (TELEMETRY, ORIGINALS)
            for partition, end in self.kafka.end_offsets(topic).items()
        }

        def is_loaded() -> bool:
            reached: dict[tuple[str, int], int] = {}
            for loader in loaders:
                for key, offset in loader.loaded.items():
                    reached[key] = max(offset, reached.get(key, 0))
            return all(reached.get(key, 0) >= end for key, end in ends.items())

        loaders[-1].wait_until(is_loaded, "all is loaded")


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
        ledger = Ledger()
        feed = Feed(cluster, ledger, request.node.name)
        feed.create(TELEMETRY, PARTITIONS)
        feed.create(ORIGINALS)
        loaders = Loaders(tmp_path, loader_env(bootstrap or cluster.bootstrap, tmp_path, protocol))
        made.append(Scene(warehouse, cluster, ledger, feed, loaders))
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
