"""Kafka is killed, moves its leaders, is far away: the loader waits, and goes on where it stood."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import DuckDB, use
from tests.faults.ledger import TELEMETRY
from tests.faults.scene import Scene
from tests.parts.kafka import Cluster
from tests.parts.process import wait_until
from tests.parts.proxy import Proxy


def test_the_broker_is_killed_and_started_again(postgres_scene: Scene) -> None:
    scene = postgres_scene
    scene.feed.mixture(500)
    loader = scene.start(batch_records=10)
    loader.wait_for("loaded", 3)
    scene.kafka.brokers[0].kill()
    loader.wait_for("partitions_let_go")
    scene.kafka.start()
    scene.feed.mixture(100)
    scene.wait_until_loaded(loader)
    loader.stop()
    assert scene.faults() == []


@pytest.fixture(scope="module")
def three_brokers() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="cdw-kafka-", ignore_cleanup_errors=True) as folder,
        Cluster(Path(folder), brokers=3, heap="256m") as cluster,
    ):
        yield cluster


def test_another_broker_leads(
    three_brokers: Cluster,
    make_scene: Callable[..., Scene],
    duckdb_path: Path,
    profiles_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warehouse = DuckDB(duckdb_path)
    use(warehouse, profiles_dir, monkeypatch)
    scene = make_scene(warehouse, cluster=three_brokers)
    scene.feed.mixture(500)
    loader = scene.start(batch_records=10)
    loader.wait_for("loaded", 3)
    leader = three_brokers.leader(TELEMETRY)
    leader.kill()
    wait_until(lambda: three_brokers.leader(TELEMETRY) != leader, "another broker leads")
    scene.feed.mixture(100)
    scene.wait_until_loaded(loader)
    loader.stop()
    assert scene.faults() == []


def test_round_trips_of_800_ms(duckdb_scene: Scene, tmp_path: Path) -> None:
    scene = duckdb_scene
    broker = scene.kafka.brokers[0]
    scene.feed.mixture(300)
    patient = tmp_path / "patient.properties"
    patient.write_text("")  # the defaults: a heartbeat has to come in time
    with Proxy(broker.behind, int(broker.proxied.split(":")[1])) as proxy:
        proxy.delay = 0.4
        loader = scene.start(kafka_bootstrap_servers=broker.proxied, kafka_config=patient)
        scene.wait_until_loaded(loader)
        scene.feed.mixture(100)
        scene.wait_until_loaded(loader)
        assert loader.words.count("\nplaced ") == len(loader.loaded), "it has not lost its place"
        loader.stop()
    assert scene.faults() == []
