"""What ``cdw status`` says of a real Kafka and a warehouse beside it, and what it says without one."""

import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import duckdb
import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from loaders import status
from loaders.cli import app
from loaders.load import load_kafka
from tests.conftest import DuckDB, Warehouse
from tests.parts.kafka import Cluster
from tests.parts.process import free_port, wait_until

TELEMETRY = "device.telemetry"
PATIENTS = "healthcare.public.patients"
SECRET = "DEV-CANARY-0815"
GOOD = b'{"device_id":"%b"}' % SECRET.encode()
BAD = b"{%b" % SECRET.encode()
MINUTE = 60_000

Partitions = Mapping[tuple[str, int], dict[str, Any]]


@pytest.fixture
def broker(kafka: Cluster, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A broker with a topic of two partitions, beside an empty warehouse."""
    monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setenv("CDW_BATCH_SECONDS", "0.1")
    kafka.create_topic(TELEMETRY, 2)
    return kafka


def send(broker: Cluster, topic: str, *values: bytes, age: int = 0, is_aborted: bool = False) -> None:
    """To partition 0; ``age``: how many minutes ago the records were made."""
    more = {"transactional.id": "t"} if is_aborted else {}
    producer = Producer({"bootstrap.servers": broker.bootstrap, **more})
    if is_aborted:
        producer.init_transactions(30)
        producer.begin_transaction()
    at = int(time.time() * 1_000) - age * MINUTE
    for value in values:
        producer.produce(topic, value, key=SECRET, partition=0, timestamp=at, headers={"h": SECRET})
    assert producer.flush(30) == 0
    if is_aborted:
        producer.abort_transaction(30)


def load() -> None:
    load_kafka(start="earliest", is_once=True)


def cdw(*words: str) -> tuple[int, str]:
    """Exit code and all that ``cdw status`` says."""
    done = CliRunner().invoke(app, ["status", *words])
    assert SECRET not in done.output
    return done.exit_code, done.output


def read() -> tuple[dict[str, Any], Partitions]:
    """Kafka and the partitions of ``cdw status --json``; those of earlier topics left out."""
    found = json.loads(cdw("--json")[1])
    partitions = [each for each in found["partitions"] if each["state"] != "superseded"]
    return found["kafka"], {(each["topic"], each["partition"]): each for each in partitions}


def test_position_end_lag_and_age(broker: Cluster, warehouse: Warehouse) -> None:
    send(broker, TELEMETRY, GOOD, BAD, BAD, age=60)
    load()
    assert cdw("--max-age", "0")[0] == 0
    send(broker, TELEMETRY, GOOD, age=20)
    send(broker, TELEMETRY, GOOD, age=5)
    kafka, partitions = read()
    assert kafka["unknown"] is None
    assert len(kafka["cluster"]) == 22
    assert PATIENTS in kafka["missing_topics"]
    assert TELEMETRY not in kafka["missing_topics"]
    behind = partitions[TELEMETRY, 0]
    assert behind["topic_id"] == broker.topic_id(TELEMETRY)
    assert (behind["begin"], behind["next_offset"], behind["end"], behind["lag"]) == (0, 3, 5, 2)
    assert 20 * 60 <= behind["oldest_unloaded_age_seconds"] < 22 * 60
    assert (behind["rows"], behind["rejects"], behind["state"]) == (1, {"E_NOT_JSON": 2}, "current")
    even = partitions[TELEMETRY, 1]
    assert (even["next_offset"], even["end"], even["lag"], even["rows"]) == (0, 0, 0, 0)
    assert (even["oldest_unloaded_age_seconds"], even["last_batch_at"]) == (None, None)

    code, text = cdw("--max-age", "3600")
    assert code == 0
    assert f"{TELEMETRY}, partition 0: next offset 3, end 5, lag 2, oldest unloaded record 0:2" in text
    assert "1 rows, 2 rejected (E_NOT_JSON), last batch 20" in text
    assert cdw("--max-age", "600")[0] == 1
    load()
    assert cdw("--max-age", "0")[0] == 0


def test_what_no_reader_is_given_has_no_age(broker: Cluster) -> None:
    send(broker, TELEMETRY, GOOD)
    load()
    send(broker, TELEMETRY, GOOD, GOOD, age=60, is_aborted=True)
    _, partitions = read()
    assert (partitions[TELEMETRY, 0]["lag"], partitions[TELEMETRY, 0]["oldest_unloaded_at"]) == (3, None)
    assert cdw("--max-age", "60")[0] == 0


def test_what_stands_behind_an_open_transaction_waits(broker: Cluster) -> None:
    send(broker, TELEMETRY, GOOD)
    load()
    hanging = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": uuid4().hex})
    hanging.init_transactions(30)
    hanging.begin_transaction()
    at = int(time.time() * 1_000)
    hanging.produce(TELEMETRY, GOOD, partition=0, timestamp=at - 10 * MINUTE)
    assert hanging.flush(30) == 0
    send(broker, TELEMETRY, GOOD, GOOD)
    found = read()[1][TELEMETRY, 0]
    assert (found["end"], found["lag"], found["withheld"]) == (1, 0, 3)
    assert 10 * 60 <= found["oldest_unloaded_age_seconds"] < 12 * 60
    code, text = cdw("--max-age", "600")
    assert code == 1
    assert "lag 0, 3 behind an open transaction" in text
    hanging.abort_transaction(30)
    wait_until(lambda: not read()[1][TELEMETRY, 0]["withheld"], "the transaction is ended")
    load()
    # Of what is before and after the beginning of another one, the older counts.
    send(broker, TELEMETRY, GOOD, age=30)
    hanging.begin_transaction()
    hanging.produce(TELEMETRY, GOOD, partition=0)
    assert hanging.flush(30) == 0
    found = read()[1][TELEMETRY, 0]
    assert (found["lag"], found["withheld"]) == (1, 1)
    assert 30 * 60 <= found["oldest_unloaded_age_seconds"] < 32 * 60
    hanging.abort_transaction(30)


def test_topics_and_partitions_that_were_never_loaded(broker: Cluster) -> None:
    load()
    broker.create_topic(PATIENTS)
    broker.add_partitions(TELEMETRY, 3)
    send(broker, PATIENTS, GOOD, age=30)
    _, partitions = read()
    assert {key: each["state"] for key, each in partitions.items()} == {
        (TELEMETRY, 0): "current",
        (TELEMETRY, 1): "current",
        (TELEMETRY, 2): "not_loaded",
        (PATIENTS, 0): "not_loaded",
    }
    found = partitions[PATIENTS, 0]
    assert (found["next_offset"], found["lag"], found["rows"]) == (None, 1, 0)
    code, text = cdw("--max-age", "600")
    assert code == 1
    assert f"{PATIENTS}, partition 0: end 1, lag 1, oldest unloaded record 0:3" in text
    assert "never loaded from here" in text


def test_a_topic_made_anew(broker: Cluster) -> None:
    send(broker, TELEMETRY, GOOD, GOOD)
    load()
    broker.delete_topics(TELEMETRY)
    _, partitions = read()
    assert {each["state"] for each in partitions.values()} == {"gone"}
    broker.create_topic(TELEMETRY)
    send(broker, TELEMETRY, GOOD)
    _, partitions = read()
    found = partitions[TELEMETRY, 0]
    assert (found["state"], found["next_offset"], found["end"]) == ("made_anew", None, 1)
    code, text = cdw("--max-age", "3600")
    assert code == 1
    assert f"cdw seek {TELEMETRY} --to earliest" in text
    assert "an earlier topic of this name" in text


def test_retention_near_and_past(broker: Cluster) -> None:
    broker.configure_topic(TELEMETRY, {"retention.ms": str(120 * MINUTE)})
    send(broker, TELEMETRY, GOOD, age=10)
    load()
    send(broker, TELEMETRY, GOOD, GOOD, age=50)
    assert read()[1][TELEMETRY, 0]["state"] == "current"
    broker.configure_topic(TELEMETRY, {"retention.ms": str(90 * MINUTE)})
    wait_until(lambda: read()[1][TELEMETRY, 0]["state"] == "retention_close", "retention is close")
    assert "Kafka will drop it" in cdw()[1]

    broker.delete_records(TELEMETRY, {0: 2})
    found = read()[1][TELEMETRY, 0]
    assert (found["state"], found["next_offset"], found["begin"], found["lag"]) == (
        "retention_passed",
        1,
        2,
        1,
    )
    code, text = cdw("--max-age", "86400")
    assert code == 1
    assert f"dropped offsets 1 to 1 before they were loaded: cdw seek {TELEMETRY} --partition 0" in text


def test_a_warehouse_ahead_of_kafka(broker: Cluster, warehouse: Warehouse) -> None:
    load()
    warehouse.run("update raw.load_positions set next_offset = 7 where partition = 1")
    found = read()[1][TELEMETRY, 1]
    assert (found["state"], found["lag"]) == ("beyond_end", 0)
    code, text = cdw("--max-age", "86400")
    assert code == 1
    assert f"cdw seek {TELEMETRY} --partition 1 --to latest" in text


def test_without_kafka_the_warehouse_is_told(broker: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    send(broker, TELEMETRY, GOOD, BAD)
    load()
    monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(status, "_KAFKA_SECONDS", 1.0)
    kafka, partitions = read()
    assert "Kafka cannot be reached" in kafka["unknown"]
    found = partitions[TELEMETRY, 0]
    assert (found["state"], found["next_offset"], found["rows"]) == ("unknown", 2, 1)
    assert (found["end"], found["lag"], found["oldest_unloaded_age_seconds"]) == (None, None, None)
    code, text = cdw("--max-age", "86400")
    assert code == 1
    assert "not known: Kafka cannot be reached" in text
    assert "Kafka's side is not known" in text


def test_another_kafka_is_not_taken_for_this_one(broker: Cluster, warehouse: Warehouse) -> None:
    send(broker, TELEMETRY, GOOD)
    load()
    warehouse.run("update raw.load_positions set cluster = 'another'")
    kafka, _ = read()
    assert "another Kafka cluster" in kafka["unknown"]
    assert cdw("--max-age", "86400")[0] == 1


def test_where_nothing_was_loaded_nothing_is_known(warehouse: Warehouse) -> None:
    if isinstance(warehouse, DuckDB):
        duckdb.connect(str(warehouse.path)).close()
    assert "nothing has been loaded here yet" in cdw()[1]
    assert cdw()[0] == 0
    assert cdw("--max-age", "86400")[0] == 1
