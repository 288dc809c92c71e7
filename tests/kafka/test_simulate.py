"""``cdw simulate --kafka``: what ``--out`` writes, under the keys that devices and Debezium use."""

import json
from pathlib import Path

import pytest

from loaders.hl7.publish import HL7_TOPICS, MESSAGES, REJECTED
from loaders.ingest import ingest_to_directory
from loaders.settings import load_settings
from loaders.simulate.config import Config
from loaders.simulate.write import simulate, simulate_to_kafka
from tests.kafka.topics import read
from tests.parts.kafka import Cluster


def test_kafka_gets_what_a_directory_gets(
    kafka: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    config = Config(seed=7, patients=4, hours=3)
    counts = simulate_to_kafka(config, load_settings(), lambda name, done: None)
    written = simulate(config, tmp_path, lambda name, done: None)
    assert counts == {name: count for name, count in written.items() if name != "defects"}
    for topic in counts.keys() - {"hl7"}:
        records = read(kafka, topic)
        lines = (tmp_path / f"{topic}.jsonl").read_bytes().splitlines()
        assert [record.value or b"null" for record in records] == lines
        for record in records:
            check_key(topic, record.key or b"", record.value)

    ingest_to_directory([str(file) for file in tmp_path.glob("hl7/*.hl7")], tmp_path)
    for topic in (MESSAGES, REJECTED):
        texts = [(record.value or b"") for record in read(kafka, topic)]
        there = (tmp_path / f"{topic}.jsonl").read_bytes().splitlines()
        assert sorted(map(digest, texts)) == sorted(map(digest, there))
    assert len(kafka.topics()) == len(counts) - 1 + len(HL7_TOPICS)


def check_key(topic: str, key: bytes, value: bytes | None) -> None:
    if topic.startswith("healthcare"):
        key_id = json.loads(key)["id"]
        if value:
            event = json.loads(value)
            event = event.get("payload", event)
            assert (event["after"] or event["before"])["id"] == key_id
    else:
        assert key.startswith(b"DEV-")
        # What is broken on purpose may tell no device, or not be JSON at all.
        assert not value or b'"device_id":"DEV-' not in value or b'"%s"' % key in value


def digest(text: bytes) -> str:
    value = json.loads(text)
    return str(value.get("sha256") or value["meta"]["sha256"])
