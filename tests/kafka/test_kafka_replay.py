"""``cdw replay`` through a real Kafka: what the decoder refused comes in as a message of the same bytes."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from loaders.hl7.publish import MESSAGES, ORIGINALS, REJECTED
from loaders.ingest import ingest_to_kafka
from loaders.kafka.topics import ensure_topics
from loaders.load import load_kafka
from loaders.profile import find_target
from loaders.replay.choice import Choice
from loaders.replay.run import Replayed, replay
from loaders.settings import load_settings
from tests.conftest import Warehouse
from tests.parts.kafka import Cluster

MESSAGE = (
    b"MSH|^~\\&|A|FAC|||20260105100000||ORU^R01|C1|P|2.5\rPID|1||ZZ1^^^F^MR\rNTE|||" + b"x" * 3_000 + b"\r"
)


def test_what_is_a_message_today_comes_in_by_kafka(
    kafka: Cluster, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    ensure_topics(load_settings(), [MESSAGES, ORIGINALS, REJECTED])
    (tmp_path / "feed.hl7").write_bytes(MESSAGE)
    monkeypatch.setenv("CDW_MAX_RECORD_BYTES", "2000")
    assert ingest_to_kafka([str(tmp_path / "feed.hl7")], load_settings()).rejects == 1
    monkeypatch.delenv("CDW_MAX_RECORD_BYTES")
    load_kafka(start="earliest", is_once=True)
    choice = Choice(since=datetime(2000, 1, 1, tzinfo=UTC))
    assert replay(find_target(), choice) == Replayed(published=1)
    load_kafka(is_once=True)
    [(text,)] = warehouse.rows("select payload::text from raw.hl7_messages")
    assert json.loads(text)["meta"]["sha256"] == sha256(MESSAGE).hexdigest()
    assert warehouse.rows("select bytes from raw_restricted.hl7_originals") == [(MESSAGE,)]
    assert replay(find_target(), choice) == Replayed()
