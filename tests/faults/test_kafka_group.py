"""Several loaders: zombies, storms, two at once. Whatever the group says, each record is loaded once."""

import random
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import Postgres, use
from tests.faults.ledger import TELEMETRY, leaks
from tests.faults.loader import Loader
from tests.faults.scene import PARTITIONS, Scene
from tests.parts.process import LOCALHOST, SECONDS, free_port

STORM_ROUNDS = 4


def test_two_loaders_share_the_partitions(scene: Scene) -> None:
    metrics = f"{LOCALHOST}:{free_port()}"
    loaders = [scene.start("--metrics", metrics), scene.start()]
    for loader in loaders:
        loader.wait_for("\nplaced ")
    for _ in range(3):
        scene.feed.mixture(200)
        scene.wait_until_loaded(*loaders)
    with urlopen(f"http://{metrics}/metrics", timeout=SECONDS) as answer:
        told = answer.read().decode()
    assert TELEMETRY in told
    assert not leaks(told)
    for loader in loaders:
        assert loader.loaded, "each has its part"
        loader.stop()
    assert scene.faults() == []


def test_of_loaders_that_start_at_once_one_creates_the_tables(scene: Scene) -> None:
    # Each stands still once it has seen that there are no tables.
    loaders = [scene.start("--once", harm="after:_found:SIGSTOP:1") for _ in range(3)]
    for loader in loaders:
        loader.wait_for_stop()
    for loader in loaders:
        loader.send(signal.SIGCONT)
    assert [loader.wait() for loader in loaders] == [0, 0, 0]
    scene.feed.mixture(100)
    scene.finish()


def test_a_zombie_wakes_before_its_transaction(scene: Scene) -> None:
    scene.feed.mixture(500)
    zombie = scene.start(harm="before:load:SIGSTOP:3")
    zombie.wait_for_stop()
    successor = scene.start()
    scene.wait_until_loaded(zombie, successor)
    zombie.send(signal.SIGCONT)
    zombie.wait_for("fenced")
    scene.feed.mixture(300)
    scene.wait_until_loaded(zombie, successor)
    zombie.stop()
    successor.stop()
    assert scene.faults() == []


def test_a_zombie_wakes_within_its_transaction(scene: Scene) -> None:
    scene.feed.mixture(500)
    zombie = scene.start(harm="after:_append:SIGSTOP:5")
    zombie.wait_for_stop()
    successor = scene.start()
    # Postgres ends the session that stands still; a DuckDB file is the zombie's until it wakes.
    successor.wait_for("locked by" if scene.warehouse.target == "duckdb" else "loaded")
    zombie.send(signal.SIGCONT)
    scene.feed.mixture(300)
    scene.wait_until_loaded(zombie, successor)
    zombie.stop()
    successor.stop()
    assert scene.faults() == []


def test_a_storm_of_rebalances_of_a_classic_group(duckdb_scene: Scene) -> None:
    storm(duckdb_scene, seed=1)


def test_a_storm_of_rebalances_of_a_group_by_kip_848(
    postgres: Postgres, make_scene: Callable[..., Scene], profiles_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(postgres, profiles_dir, monkeypatch)
    storm(make_scene(postgres, "consumer"), seed=2)


def storm(scene: Scene, seed: int) -> None:
    """Loaders join, leave, die and stand still; each record is loaded once."""
    chance = random.Random(seed)
    running: list[Loader] = []
    for _ in range(STORM_ROUNDS):
        running.append(scene.start())
        scene.feed.mixture(100)
        running[-1].wait_for("running")
        victim = chance.choice(running)
        match chance.randrange(4):
            case 0 if len(running) > 1:
                victim.kill()
                running.remove(victim)
            case 1 if len(running) > 1:
                victim.stop()
                running.remove(victim)
            case 2:
                victim.send(signal.SIGSTOP)
                scene.feed.mixture(200)
                victim.send(signal.SIGCONT)
    scene.feed.mixture(100)
    for loader in running:
        loader.stop()
    assert scene.faults(is_complete=False) == []
    scene.finish()


def test_a_loader_that_waits_hands_over_and_takes_back(postgres_scene: Scene, postgres: Postgres) -> None:
    first = postgres_scene.start()
    first.wait_for("\nplaced ", PARTITIONS + 1)
    with postgres.connect() as other, other.transaction():
        other.execute("lock table raw.device_telemetry in access exclusive mode")
        postgres_scene.feed.produce(100, TELEMETRY)
        first.wait_for("a raw table is locked by")
        second = postgres_scene.start()
        second.wait_for("\nplaced ", 2)
    first.wait_for("resumed")
    postgres_scene.wait_until_loaded(first, second)
    second.stop()
    postgres_scene.feed.mixture(100)
    postgres_scene.wait_until_loaded(second, first)
    first.stop()
    assert postgres_scene.faults() == []
