"""What happens to topics: records dropped, topics made anew, partitions added, transactions left open."""

import re
import signal

import pytest

from tests.faults.ledger import ORIGINALS, TELEMETRY
from tests.faults.loader import Loader
from tests.faults.scene import PARTITIONS, Scene


def fails(scene: Scene, loader: Loader, what: str) -> None:
    """The loader ends and says why; the commands that it names put it right."""
    assert loader.wait() == 1
    assert what in loader.words
    assert scene.faults(is_complete=False) == []
    # Each partition may have its own fault, which the next run tells.
    for _ in range(2 * PARTITIONS):
        (remedy,) = re.findall(r"to do: cdw (seek .*? --to earliest)", loader.said())
        scene.loaders.run(remedy)
        loader = scene.start("--once")
        if loader.wait() == 0:
            break
    assert scene.faults() == []


def test_retention_passes_a_loader(duckdb_scene: Scene) -> None:
    scene = duckdb_scene
    scene.feed.produce(100)
    loader = scene.start()
    scene.wait_until_loaded(loader)
    loader.send(signal.SIGSTOP)
    # What answers the request that it has sent already, and what it never gets.
    scene.feed.produce(50)
    scene.feed.produce(200)
    for topic in (TELEMETRY, ORIGINALS):
        scene.feed.delete_records(topic, left=5)
    loader.send(signal.SIGCONT)
    fails(scene, loader, "before they were loaded: offsets ")


@pytest.mark.parametrize("is_running", [True, False])
def test_a_topic_is_made_anew_with_more_records(postgres_scene: Scene, is_running: bool) -> None:
    scene = postgres_scene
    scene.feed.produce(100)
    loader = scene.start()
    scene.wait_until_loaded(loader)
    if not is_running:
        loader.stop()
    scene.kafka.delete_topics(TELEMETRY)
    scene.feed.create(TELEMETRY, PARTITIONS)
    scene.feed.produce(400, TELEMETRY)
    if not is_running:
        loader = scene.start()
    fails(scene, loader, "was deleted and made anew under the same name")


def test_partitions_are_added(postgres_scene: Scene) -> None:
    scene = postgres_scene
    scene.feed.mixture(100)
    loader = scene.start()
    scene.wait_until_loaded(loader)
    scene.feed.add_partitions(TELEMETRY, PARTITIONS + 2)
    scene.feed.mixture(200)
    scene.wait_until_loaded(loader)
    loader.stop()
    assert scene.faults() == []
    assert (TELEMETRY, PARTITIONS + 1) in loader.loaded


@pytest.mark.parametrize("is_aborted", [True, False])
def test_a_transaction_is_left_open(duckdb_scene: Scene, is_aborted: bool) -> None:
    scene = duckdb_scene
    scene.feed.mixture(100)
    loader = scene.start()
    scene.wait_until_loaded(loader)
    with scene.feed.open_transaction(50, is_aborted=is_aborted):
        scene.feed.produce(100)
        loader.stop()
        # Nothing from the transaction's first record on is there to be read.
        assert scene.start("--once").wait() == 0
        assert scene.faults(is_complete=False) == []
    scene.finish()
