"""The books balance whatever is done to raw with cdw, and show what is done without it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from loaders.directory import TopicDirectory
from loaders.load import load_directory
from loaders.patients import Identifier
from loaders.profile import find_target
from loaders.purge import naming, purge
from loaders.replay.choice import Choice
from loaders.replay.run import replay
from loaders.topics import load_topics
from loaders.warehouse import open_warehouse
from loaders.warehouse.protocol import Batch
from tests.conftest import PROJECT, Warehouse
from tests.warehouse.hospital import Runner

LINES = [
    b'{"patient_id":"MRN1"}',
    b'{"patient_id":"MRN2"}',
    b'{"patient_id":"MRN1","note":"' + b"x" * 2_000 + b'"}',
    b'{"patient_id":"MRN2","note":"' + b"x" * 2_000 + b'"}',
    b"no JSON",
    b"no JSON: MRN1",
]


def test_after_load_skip_replay_and_purge(
    warehouse: Warehouse, tmp_path: Path, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "topics"
    source.mkdir()
    (source / "device.telemetry.jsonl").write_bytes(b"".join(line + b"\n" for line in LINES))
    monkeypatch.setenv("CDW_MAX_RECORD_BYTES", "1000")
    load_directory(source)
    monkeypatch.delenv("CDW_MAX_RECORD_BYTES")
    with TopicDirectory(source, load_topics(PROJECT)) as directory:
        partition = directory.files[0].partition
    at = datetime(2026, 1, 1)
    with open_warehouse(find_target()) as opened:
        opened.load([Batch(partition, 6, 10, [], [], 4, 0, "1" * 64, "0" * 64, at, kind="skip")])

    # As the model counts; compiled once, for a run of dbt takes its time.
    runner = Runner(tmp_path, profiles_dir, {**warehouse.env, "CDW_TARGET": warehouse.target})
    runner.dbt("compile", "--select", "reconciliation")
    [compiled] = (runner.target / "compiled").rglob("reconciliation.sql")
    query = (
        "select records_received, records_loaded, records_rejected, records_purged, is_balanced "
        f"from ({compiled.read_text(encoding='utf-8')}) as books"
    )
    assert warehouse.rows(query) == [(6, 2, 4, 0, True)]
    replay(find_target(), Choice(since=datetime(2000, 1, 1, tzinfo=UTC)))
    assert warehouse.rows(query) == [(6, 4, 2, 0, True)]
    purge(find_target(), PROJECT, naming(Identifier("EHR", "MRN1"), PROJECT))
    assert warehouse.rows(query) == [(6, 2, 1, 3, True)]
    warehouse.run("delete from raw.device_telemetry where _offset = 1")
    assert warehouse.rows(query) == [(6, 1, 1, 3, False)]
