"""kill -9 at any point, and two loaders at once: each record once, in order, chained; nothing lost."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Postgres, Warehouse, use

LINE_COUNT = 1_500
LINES = [
    b"broken %d" % number if number % 17 == 3 else b'{"device_id":"D%d","sequence":%d}' % (number % 7, number)
    for number in range(LINE_COUNT)
]
DATA = b"".join(line + b"\n" for line in LINES)
KILLS = 12
POINTS = ["_move_position", "_insert_batch", "_append", "load"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder / "device.telemetry.jsonl"


def start(
    file: Path, point: str = "nowhere", number: str = "SIGKILL", times: int = 1
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.load_child", str(file.parent), point, number, str(times)],
        cwd=PROJECT,
        env={**os.environ, "CDW_BATCH_RECORDS": "20"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(file: Path) -> None:
    _, said = (child := start(file)).communicate(timeout=60)
    assert child.returncode == 0, said


def check(warehouse: Warehouse, end: int | None = None) -> int:
    """All that was loaded is a prefix of the lines, each once, and the books agree; its end is returned."""
    [(position,)] = warehouse.rows(
        "select coalesce(max(next_offset), 0) from raw.load_positions where topic = 'device.telemetry'"
    ) or [(0,)]
    assert isinstance(position, int)
    assert end is None or position == end
    rows = warehouse.rows("select _offset, payload::text, _batch_id from raw.device_telemetry")
    rejects = warehouse.rows("select _offset, bytes, _batch_id from raw_restricted.rejected_records")
    found = [(offset, str(text).encode(), batch) for offset, text, batch in rows] + rejects
    assert sorted((offset, line) for offset, line, _ in found) == list(enumerate(LINES[:position]))
    assert all(line.startswith(b"{") for _, line, _ in found[: len(rows)])
    head, offset = "", 0
    for number, first, after, row_count, reject_count, byte_count, digest, previous in warehouse.rows(
        "select batch_id, first_offset, next_offset, row_count, reject_count, byte_count, sha256, "
        "coalesce(previous_sha256, '') from raw.load_batches order by batch_id"
    ):
        assert (first, previous) == (offset, head)
        data = b"".join(line + b"\n" for line in LINES[first:after])
        assert (digest, byte_count) == (sha256(head.encode() + data).hexdigest(), len(data))
        assert sum(batch == number for *_, batch in rows) == row_count
        assert sum(batch == number for *_, batch in rejects) == reject_count
        head, offset = digest, after
    assert offset == position
    return position


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_of_the_transaction(warehouse: Warehouse, file: Path, point: str) -> None:
    file.write_bytes(DATA)
    for times in (1, 7):
        child = start(file, point, "SIGKILL", times)
        child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL
        # What was being loaded when it died is not there, unless it had been committed.
        check(warehouse)
    finish(file)
    check(warehouse, LINE_COUNT)


def test_killed_at_random_while_the_file_grows(
    warehouse: Warehouse, file: Path, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(request.node.name)
    written, kills, reached = 0, 0, set()
    for _ in range(KILLS):
        # Cut anywhere, so that the last line is seldom whole; a tenth is some eight batches.
        more = chance.randrange(len(DATA) // 10)
        with file.open("ab") as stream:
            stream.write(DATA[written : written + more])
        written = min(written + more, len(DATA))
        child = start(file)
        assert child.stdout is not None
        for _ in range(chance.randrange(1, 9)):
            child.stdout.readline()
        time.sleep(chance.random() * 0.02)
        child.kill()
        child.communicate(timeout=60)
        kills += child.returncode == -signal.SIGKILL
        reached.add(check(warehouse))
    assert kills >= 3
    assert len(reached) >= 3
    with file.open("ab") as stream:
        stream.write(DATA[written:])
    finish(file)
    check(warehouse, LINE_COUNT)


@pytest.fixture
def on_postgres(postgres: Postgres, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    use(postgres, profiles_dir, monkeypatch)
    return postgres


def wait_for(postgres: Postgres, what: str) -> None:
    for _ in range(600):
        if postgres.rows(f"select 1 from pg_stat_activity where application_name = 'cdw' and {what}"):
            return
        time.sleep(0.05)
    raise AssertionError(f"no loader with {what}")


@pytest.fixture
def two(on_postgres: Postgres, file: Path) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """One loader that stands still in its third transaction, and another that waits for it."""
    file.write_bytes(DATA)
    first = start(file, "_append", "SIGSTOP", 3)
    wait_for(on_postgres, "state = 'idle in transaction'")
    second = start(file)
    wait_for(on_postgres, "wait_event_type = 'Lock'")
    yield first, second
    for child in (first, second):
        child.kill()
        child.communicate()


def test_a_loader_that_wakes_fences_the_one_that_waited(
    on_postgres: Postgres, two: tuple[subprocess.Popen[str], subprocess.Popen[str]]
) -> None:
    first, second = two
    first.send_signal(signal.SIGCONT)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 1
    assert "another loader moved the position" in said
    assert first.wait(60) == 0
    check(on_postgres, LINE_COUNT)


def test_a_loader_that_dies_leaves_its_place_to_the_one_that_waited(
    on_postgres: Postgres, two: tuple[subprocess.Popen[str], subprocess.Popen[str]]
) -> None:
    first, second = two
    first.kill()
    _, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    check(on_postgres, LINE_COUNT)


def test_of_loaders_that_start_at_once_one_loads(on_postgres: Postgres, file: Path) -> None:
    file.write_bytes(DATA)
    # Each stands still once it has read the position, and believes that it is the only one.
    children = [start(file, "loaded", "SIGSTOP") for _ in range(3)]
    for child in children:
        os.waitpid(child.pid, os.WUNTRACED)
    for child in children:
        child.send_signal(signal.SIGCONT)
    said = [child.communicate(timeout=60)[1] for child in children]
    assert sorted(child.returncode for child in children) == [0, 1, 1]
    assert sum("another loader moved the position" in words for words in said) == 2
    check(on_postgres, LINE_COUNT)
