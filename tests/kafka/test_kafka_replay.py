"""``cdw replay`` through a real Kafka: what the decoder refused comes in as a message of the same bytes."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from loaders.hl7.publish import MESSAGES, ORIGINALS, REJECTED
from loaders.ingest import ingest_to_kafka
from loaders.kafka.topics import ensure_topics
from loaders.load import load_kafka
from loaders.profile import find_target
from loaders.replay.choice import Choice
from loaders.replay.run import Replayed, replay
from loaders.settings import load_settings
from loaders.topics import load_topics
from loaders.warehouse import open_warehouse
from loaders.warehouse.protocol import Batch, Partition, Record, Reject
from tests.conftest import PROJECT, Warehouse
from tests.parts.kafka import Cluster
from tests.parts.registry import Registry

TELEMETRY = "device.telemetry"
EVERYTHING = Choice(since=datetime(2000, 1, 1, tzinfo=UTC))
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
    assert replay(find_target(), EVERYTHING) == Replayed(published=1)
    load_kafka(is_once=True)
    [(text,)] = warehouse.rows("select payload::text from raw.hl7_messages")
    assert json.loads(text)["meta"]["sha256"] == sha256(MESSAGE).hexdigest()
    assert warehouse.rows("select bytes from raw_restricted.hl7_originals") == [(MESSAGE,)]
    assert replay(find_target(), EVERYTHING) == Replayed()


def avro(registry: Registry, schema: object, value: object) -> bytes:
    serializer = AvroSerializer(SchemaRegistryClient({"url": registry.url}), json.dumps(schema))
    found: bytes = serializer(value, SerializationContext(TELEMETRY, MessageField.VALUE))
    return found


@pytest.mark.parametrize("warehouse", ["postgres"], indirect=True)
def test_avro_of_a_schema_that_was_not_known_then(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "device_id", "type": "string"}]}
    partition = Partition("a-cluster", load_topics(PROJECT)[TELEMETRY], "an-id", 0)
    with Registry(tmp_path) as registry, open_warehouse(find_target()) as opened:
        value = avro(registry, schema, {"device_id": "D1"})
        rejects = [
            Reject("E_AVRO", Record(0, value, key="D1")),
            Reject("E_KEY_NOT_TEXT", Record(1, value, key_bytes=avro(registry, {"type": "string"}, "D1"))),
            Reject("E_KEY_NOT_TEXT", Record(2, None, key_bytes=avro(registry, {"type": "string"}, "D2"))),
            Reject("E_AVRO", Record(3, value[:-1])),
        ]
        opened.prepare(list(load_topics(PROJECT).values()))
        opened.load([Batch(partition, 0, 4, [], rejects, 0, 1, "1" * 64, None, datetime(2026, 1, 1))])
        assert replay(find_target(), EVERYTHING) == Replayed(still_rejected=4)
        monkeypatch.setenv("CDW_SCHEMA_REGISTRY_URL", registry.url)
        assert replay(find_target(), EVERYTHING).still_rejected == 1
    assert warehouse.rows("select _offset, _key, payload::text from raw.device_telemetry order by 1") == [
        (0, "D1", '{"device_id":"D1"}'),
        (1, "D1", '{"device_id":"D1"}'),
        (2, "D2", None),
    ]
