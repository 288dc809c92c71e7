"""The ledger finds what it is there to find: in books and rows that were spoiled, and behind a bad loader."""

import signal
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.ledger import CANARY, Fault, Place, leaks
from tests.faults.scene import Scene

ONE = "_partition = 1 and _offset = 7"

# What is done to a whole warehouse -> what must be found.
SPOILED = {
    "delete from raw.device_telemetry where {one}": {"lost", "batch counts wrong"},
    "insert into raw.device_telemetry select * from raw.device_telemetry where {one}": {"repeated"},
    "insert into raw_restricted.rejected_records (_topic, _topic_id, _partition, _offset, _batch_id) "
    "select _topic, _topic_id, _partition, _offset, _batch_id from raw.device_telemetry "
    "where {one}": {"repeated"},
    "update raw.device_telemetry set payload = '{}' where {one}": {
        "changed",
        "batch has another sha256",
    },
    "update raw.device_telemetry set _key = 'x' where {one}": {"changed"},
    "update raw.device_telemetry set _headers = null where {one}": {"changed"},
    "update raw.device_telemetry set _offset = 100000 where {one}": {
        "lost",
        "invented",
        "record outside its batch: order is lost",
    },
    "update raw.device_telemetry set _batch_id = 1 - _batch_id where {one}": {
        "record without a batch",
        "batch counts wrong",
    },
    "update raw.load_batches set previous_sha256 = 'x' where topic like 'device%' and partition = 1 and "
    "first_offset > 0": {"batch does not follow the one before", "batch has another sha256"},
    "update raw.load_batches set next_offset = next_offset - 1, explained_count = explained_count - 1 "
    "where topic like 'device%' and partition = 1 and first_offset = 0": {
        "batch does not follow the one before"
    },
    "update raw.load_positions set next_offset = next_offset - 1": {
        "position is not where the last batch ends"
    },
}


def kinds(faults: list[Fault]) -> set[str]:
    return {fault.kind for fault in faults}


@pytest.fixture
def loaded(duckdb_scene: Scene) -> Scene:
    """All is loaded, in several batches a partition, none of them with a fault."""
    duckdb_scene.feed.produce(20)
    duckdb_scene.finish()
    duckdb_scene.feed.mixture(200)
    duckdb_scene.finish()
    return duckdb_scene


def test_what_is_spoiled_is_found(loaded: Scene) -> None:
    file = Path(loaded.warehouse.env["CDW_DUCKDB_PATH"])
    whole = file.read_bytes()
    for statement, expected in SPOILED.items():
        file.write_bytes(whole)
        assert loaded.faults() == []
        loaded.warehouse.run(statement.replace("{one}", ONE))
        assert expected <= kinds(loaded.faults()), statement


def test_what_the_ledger_lacks_is_found(loaded: Scene) -> None:
    place = loaded.feed.place("device.telemetry", 1)
    ledger = loaded.ledger
    offset, digest = ledger.records[place].popitem()
    assert "invented" in kinds(loaded.faults())
    ledger.aborted[place].add(offset)
    assert "aborted, but loaded" in kinds(loaded.faults())
    ledger.aborted[place].remove(offset)
    ledger.records[place][offset] = digest
    ledger.records[Place("device.telemetry", "another", 0)][0] = digest
    assert kinds(loaded.faults()) == {"lost"}
    assert loaded.faults(is_complete=False) == []
    del ledger.records[Place("device.telemetry", "another", 0)]
    marked, _ = ledger.markers.most_common(1)[0]
    for wrong in (-1, 1):
        ledger.markers[marked] += wrong
        assert [fault.place for fault in loaded.faults()] == [marked]
        ledger.markers[marked] -= wrong


def _killed(scene: Scene, plant: str) -> None:
    loader = scene.start(harm="after:_append:SIGKILL:3", plant=plant)
    assert loader.wait() == -signal.SIGKILL


def _zombie(scene: Scene, plant: str) -> None:
    zombie = scene.start(harm="before:load:SIGSTOP:2", plant=plant)
    zombie.wait_for_stop()
    successor = scene.start(plant=plant)
    scene.wait_until_loaded(zombie, successor)
    zombie.send(signal.SIGCONT)
    zombie.wait_for("loaded", len(zombie.loaded) + 1)
    zombie.kill()
    successor.stop()


@pytest.mark.parametrize(
    ("plant", "harm", "expected"),
    [
        ("position_first", _killed, "lost"),
        ("rows_first", _killed, "repeated"),
        ("blind", _zombie, "repeated"),
        ("careless", _killed, "lost"),
    ],
)
def test_behind_a_loader_with_a_defect_faults_are_found(
    postgres_scene: Scene, plant: str, harm: Callable[[Scene, str], None], expected: str
) -> None:
    postgres_scene.feed.mixture(300)
    harm(postgres_scene, plant)
    loader = postgres_scene.start("--once", plant=plant)
    loader.wait()
    assert expected in kinds(postgres_scene.faults(is_complete=False))


def test_a_word_of_a_record_is_found_in_a_log() -> None:
    assert not leaks("loaded device.telemetry 0 17")
    assert leaks(f"refused {CANARY}-7")
    assert leaks(f'{{"value": "{CANARY}"}}'.encode().hex())
    for shift in range(3):
        assert leaks(b64encode(b"x" * shift + CANARY.encode() + b"y").decode())
