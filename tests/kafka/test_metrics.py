"""A running ``cdw load`` tells how it goes: metrics, health that means something, a log without values."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from loaders.cli import app
from loaders.errors import CdwError
from tests.conftest import DuckDB, Postgres, Warehouse, use
from tests.parts.kafka import Cluster
from tests.parts.process import LOCALHOST, SECONDS, Process, free_port, wait_until

TELEMETRY = "device.telemetry"
ORIGINALS = "hl7.originals"
MESSAGES = "hl7.messages"
GOOD = b'{"device_id":"D1"}'
COMMAND = [sys.executable, "-c", "from loaders.cli import main; main()"]
MAX_AGE = 5

Labels = tuple[str, ...]


@pytest.fixture
def on_duckdb(duckdb_path: Path, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    """An empty warehouse, for what has nothing to do with warehouses."""
    use(warehouse := DuckDB(duckdb_path), profiles_dir, monkeypatch)
    return warehouse


@pytest.fixture
def on_postgres(postgres: Postgres, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    use(postgres, profiles_dir, monkeypatch)
    return postgres


@pytest.fixture
def broker(kafka: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A broker with a topic of two partitions; to be named after the warehouse."""
    monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setenv("CDW_BATCH_SECONDS", "0.1")
    monkeypatch.setenv("CDW_HEALTH_MAX_AGE_SECONDS", str(MAX_AGE))
    kafka.create_topic(TELEMETRY, 2)
    return kafka


class Running:
    """``cdw load`` in a process of its own, and what it tells."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.output = folder / f"output-{secrets.token_hex(4)}"
        command = [*COMMAND, "load", "--start", "earliest", "--metrics", f"{LOCALHOST}:0", *words]
        self.process = Process(command, self.output, env=dict(os.environ))
        self.process.wait_until(lambda: self.events("metrics_served"), "metrics are served")
        [served] = self.events("metrics_served")
        self._port = int(served["port"])

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's lines of that name; every line is JSON but what is printed at the end."""
        lines = self.output.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in found if event["event"] == name]

    def get(self, path: str) -> tuple[int, str]:
        connection = HTTPConnection(LOCALHOST, self._port, timeout=SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
        except OSError as error:
            wait_until(lambda: not self.process.is_alive(), "it ends")
            raise AssertionError(self.process.said()) from error
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def metrics(self) -> dict[str, dict[Labels, float]]:
        """Name -> values of the labels, sorted by the labels' names -> value."""
        found: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                labels = tuple(sample.labels[name] for name in sorted(sample.labels))
                found.setdefault(sample.name, {})[labels] = sample.value
        return found

    def health(self) -> tuple[int, dict[str, Any]]:
        status, text = self.get("/health")
        return status, json.loads(text)

    def wait_until_loaded(self, records: int) -> None:
        """Wait until so many records are in raw and it knows that there are no more."""

        def is_loaded() -> bool:
            found = self.metrics()
            lag = found.get("cdw_load_lag_records", {})
            return (
                sum(found.get("cdw_load_records_total", {}).values()) == records
                and len(lag) == sum(found["cdw_load_assigned_partitions"].values())
                and len(lag) > 0
                and not any(lag.values())
            )

        self.process.wait_until(is_loaded, f"{records} records are loaded")

    def wait_for_health(self, status: int, **parts: object) -> dict[str, Any]:
        def is_so() -> bool:
            found, body = self.health()
            return found == status and {name: body[name] for name in parts} == parts

        self.process.wait_until(is_so, f"health is {status} with {parts}")
        return self.health()[1]

    def stop(self) -> None:
        self.process.end(signal.SIGTERM)
        assert self.events("stopped"), self.process.said()


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts loaders, which are ended with the test."""
    running: list[Running] = []

    def start(*words: str) -> Running:
        running.append(Running(tmp_path, *words))
        return running[-1]

    yield start
    for each in running:
        each.process.end()


def send(
    broker: Cluster, topic: str, *values: bytes | None, partition: int = 0, age: int = 0, **more: Any
) -> None:
    """``age``: how many minutes ago the records say that they were made."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    at = int(time.time() * 1_000) - age * 60_000
    for value in values:
        producer.produce(topic, value, partition=partition, timestamp=at, **more)
    assert producer.flush(30) == 0


@contextmanager
def held(warehouse: Warehouse) -> Iterator[None]:
    """Nothing can be loaded as long as the block is not left."""
    if isinstance(warehouse, Postgres):
        with warehouse.connect() as connection, connection.transaction():
            connection.execute("lock table raw.load_positions in access exclusive mode")
            yield
        return
    assert isinstance(warehouse, DuckDB)
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    path = str(warehouse.path)
    while True:
        holder = subprocess.Popen(
            [sys.executable, "-c", hold, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert holder.stdout is not None
        if holder.stdout.readline():  # else the loader had it
            break
        holder.communicate()
    yield
    holder.communicate(b"\n")


def test_what_was_loaded_is_counted(
    warehouse: Warehouse, broker: Cluster, load: Callable[..., Running]
) -> None:
    send(broker, TELEMETRY, GOOD, GOOD, b"{", b"[]", None)
    send(broker, TELEMETRY, GOOD, b"[]", partition=1)
    running = load()
    running.wait_until_loaded(4)
    before = time.time()
    found = running.metrics()
    assert found["cdw_load_records_total"] == {(TELEMETRY,): 4}
    assert found["cdw_load_rejects_total"] == {("E_NOT_JSON", TELEMETRY): 1, ("E_NOT_OBJECT", TELEMETRY): 2}
    assert found["cdw_load_payload_bytes_total"] == {(TELEMETRY,): 3 * len(GOOD) + 1 + 2 * 2 + len("null")}
    assert found["cdw_load_position_offset"] == {("0", TELEMETRY): 5, ("1", TELEMETRY): 2}
    assert found["cdw_load_end_offset"] == found["cdw_load_position_offset"]
    assert found["cdw_load_oldest_unloaded_age_seconds"] == {("0", TELEMETRY): 0, ("1", TELEMETRY): 0}
    assert found["cdw_load_batch_records_sum"] == {(TELEMETRY,): 7}
    assert found["cdw_load_batch_bytes_sum"] == found["cdw_load_payload_bytes_total"]
    assert found["cdw_load_batch_records_count"][TELEMETRY,] >= 2
    assert found["cdw_load_transaction_seconds_count"][()] >= 1
    assert before - SECONDS < found["cdw_load_last_commit_timestamp_seconds"][()] <= before
    assert found["cdw_load_waiting"] == {("kafka",): 0, ("registry",): 0, ("warehouse",): 0}
    assert found["cdw_load_assigned_partitions"] == {(): 2}
    assert [labels[0] for labels in found["cdw_build_info"]] == ["2"]
    assert found["process_resident_memory_bytes"][()] > 1e6
    status, body = running.health()
    assert (status, body["status"], body["waiting_for"], body["partitions"]) == (200, "ok", None, 2)
    assert running.get("/else")[0] == 404
    running.stop()

    [started] = running.events("started")
    assert started["topics"] == [TELEMETRY]
    assert re.fullmatch("cdw-[0-9a-f]{12}", started["group"])
    [missing] = running.events("topics_missing")
    assert ORIGINALS in missing["topics"]
    placed: dict[str, int] = {}
    for event in running.events("partitions_placed"):
        placed |= event["offsets"][TELEMETRY]
    assert placed == {"0": 0, "1": 0}
    let_go = [event["offsets"][TELEMETRY] for event in running.events("partitions_let_go")]
    assert {number: offset for each in let_go for number, offset in each.items()} == {"0": 5, "1": 2}
    [stopped] = running.events("stopped")
    assert (stopped["rows"], stopped["rejects"]) == (4, 3)
    assert running.events("kafka_error") == []


def test_a_warehouse_that_is_away_is_ill_once_a_record_has_waited(
    warehouse: Warehouse, broker: Cluster, load: Callable[..., Running]
) -> None:
    send(broker, TELEMETRY, GOOD)
    running = load()
    running.wait_until_loaded(1)
    with held(warehouse):
        # As old as its sender's clock says, but here for a moment only.
        send(broker, TELEMETRY, GOOD, age=60)
        running.process.wait_until(
            lambda: running.health()[1]["oldest_unloaded_age_seconds"] > MAX_AGE, "the record has waited"
        )
        body = running.wait_for_health(503, waiting_for="warehouse")
        assert body["oldest_unloaded_age_seconds"] < 1_800
        found = running.metrics()
        assert found["cdw_load_waiting"] == {("kafka",): 0, ("registry",): 0, ("warehouse",): 1}
        assert found["cdw_load_oldest_unloaded_age_seconds"]["0", TELEMETRY] > MAX_AGE
        assert found["cdw_load_position_offset"]["0", TELEMETRY] == 1
        assert found["cdw_load_healthy"] == {(): 0}
    running.wait_for_health(200, waiting_for=None)
    running.wait_until_loaded(2)
    running.stop()
    assert running.events("waiting")
    assert running.events("resumed")


def test_a_load_that_hangs_is_ill(
    on_postgres: Postgres, broker: Cluster, load: Callable[..., Running]
) -> None:
    send(broker, TELEMETRY, GOOD)
    running = load()
    running.wait_until_loaded(1)
    on_postgres.run(
        "create table gate as select 1",
        "create function hang() returns trigger language plpgsql as $$ begin while exists (select from gate) "
        "loop perform pg_sleep(0.05); end loop; return new; end $$",
        "create trigger hang before insert on raw.load_batches for each row execute function hang()",
    )
    send(broker, TELEMETRY, GOOD)
    # Its thread says nothing while it hangs: it has said before what it was about to load.
    running.process.wait_until(
        lambda: running.health()[1]["oldest_unloaded_age_seconds"] > MAX_AGE, "the record has waited"
    )
    body = running.wait_for_health(503, waiting_for=None)
    assert body["unknown_seconds"] > 0
    on_postgres.run("delete from gate")
    running.wait_for_health(200, waiting_for=None)
    running.wait_until_loaded(2)
    running.stop()


def test_a_kafka_that_is_away_is_ill_though_nothing_is_known_to_wait(
    on_duckdb: DuckDB, broker: Cluster, load: Callable[..., Running]
) -> None:
    send(broker, TELEMETRY, GOOD)
    running = load()
    running.wait_until_loaded(1)
    running.wait_for_health(200)
    # It says nothing any more, and no connection ends: nobody but the silence tells.
    broker.brokers[0].send(signal.SIGSTOP)
    body = running.wait_for_health(503, waiting_for="kafka")
    assert body["oldest_unloaded_age_seconds"] == 0
    assert body["unknown_seconds"] > MAX_AGE
    broker.brokers[0].send(signal.SIGCONT)
    running.wait_for_health(200, waiting_for=None)
    send(broker, TELEMETRY, GOOD)
    running.wait_until_loaded(2)
    running.stop()


def test_what_stands_behind_an_open_transaction_is_ill(
    on_duckdb: DuckDB, broker: Cluster, load: Callable[..., Running]
) -> None:
    send(broker, TELEMETRY, GOOD)
    running = load()
    running.wait_until_loaded(1)
    names = {"bootstrap.servers": broker.bootstrap, "transactional.id": secrets.token_hex(8)}
    hanging = Producer({**names, "log_level": 0})
    hanging.init_transactions(SECONDS)
    hanging.begin_transaction()
    hanging.produce(TELEMETRY, GOOD, partition=0)
    assert hanging.flush(SECONDS) == 0
    send(broker, TELEMETRY, GOOD)
    body = running.wait_for_health(503, waiting_for=None)
    assert body["oldest_unloaded_age_seconds"] > MAX_AGE
    found = running.metrics()
    assert found["cdw_load_withheld_records"] == {("0", TELEMETRY): 2, ("1", TELEMETRY): 0}
    assert found["cdw_load_lag_records"]["0", TELEMETRY] == 0
    hanging.commit_transaction(SECONDS)
    running.wait_for_health(200, waiting_for=None)
    running.wait_until_loaded(3)
    assert running.metrics()["cdw_load_withheld_records"]["0", TELEMETRY] == 0
    running.stop()


def test_partitions_of_another_loader_are_not_told(
    on_duckdb: DuckDB, broker: Cluster, load: Callable[..., Running]
) -> None:
    send(broker, TELEMETRY, GOOD)
    running = load()
    running.wait_until_loaded(1)
    other = load()
    parts = ("cdw_load_position_offset", "cdw_load_oldest_unloaded_age_seconds")

    def are_shared() -> bool:
        found = [{*running.metrics().get(part, ())} for part in parts]
        others = [{*other.metrics().get(part, ())} for part in parts]
        return all(
            len(ours | theirs) == 2 and len(ours) == 1 for ours, theirs in zip(found, others, strict=True)
        )

    wait_until(are_shared, "each tells of one partition")
    other.wait_for_health(200, partitions=1)
    running.wait_for_health(200, partitions=1)


def test_where_metrics_are_not_told(on_duckdb: DuckDB, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with pytest.raises(CdwError, match="to this machine only"):
        CliRunner().invoke(app, ["load", "--metrics", f"0.0.0.0:{port}"], catch_exceptions=False)
    monkeypatch.setenv("CDW_METRICS_ADDRESS", "9464")
    with pytest.raises(CdwError, match="HOST:PORT is needed"):
        CliRunner().invoke(app, ["load"], catch_exceptions=False)
    with socket.create_server((LOCALHOST, port)), pytest.raises(CdwError, match="cannot be listened on"):
        CliRunner().invoke(app, ["load", "--metrics", f"{LOCALHOST}:{port}"], catch_exceptions=False)
    assert CliRunner().invoke(app, ["load", "--from", "x", "--metrics", f"{LOCALHOST}:0"]).exit_code == 2


def test_no_secret_is_told(warehouse: Warehouse, broker: Cluster, load: Callable[..., Running]) -> None:
    """Random words in values, keys and headers, in what is loaded and in what is refused."""
    secret = f"canary{secrets.token_hex(8)}"
    data = secret.encode()
    message = b"MSH|^~\\&|%b|WEST|||20260105||ADT^A01|%b|P|2.5\rPID|1||%b||%b^%b\r" % ((data,) * 5)
    values = [
        b'{"device_id":"%b","patient_id":"%b"}' % (data, data),
        b'{"device_id":"%b"' % data,
        b'["%b"]' % data,
        b'{"%b":1,"%b":2}' % (data, data),
        b'{"DEVICE_ID":"%b"}' % data,
        b'{"device_id":"%b\\u0000"}' % data,
        b'{"device_id":"%b\xff"}' % data,
    ]
    for topic in (MESSAGES, ORIGINALS):
        broker.create_topic(topic)
    more: dict[str, Any] = {"key": data, "headers": [(secret, data)]}
    send(broker, TELEMETRY, *values, **more)
    send(broker, TELEMETRY, values[0], None, key=b"\xff" + data, headers=[(secret, b"\xff" + data)])
    send(broker, ORIGINALS, message, **more)
    send(broker, MESSAGES, b'{"meta":{"control_id":"%b"},"segments":[]}' % data, message, **more)
    running = load()
    running.wait_until_loaded(3)
    with held(warehouse):
        send(broker, TELEMETRY, *values, **more)
        running.wait_for_health(503)
        told = [running.get("/metrics")[1], running.get("/health")[1]]
    running.wait_until_loaded(4)
    broker.brokers[0].kill()
    running.wait_for_health(503)
    broker.start()
    send(broker, TELEMETRY, *values, **more)
    told += [CliRunner().invoke(app, ["status", *words]).output for words in ([], ["--json"])]
    running.wait_until_loaded(5)
    told += [running.get("/metrics")[1], CliRunner().invoke(app, ["status", "--json"]).output]
    running.stop()
    assert {event["level"] for event in running.events("librdkafka")} <= {"warning", "error"}
    told.append(running.output.read_text())
    # It is where it belongs, or the search could not fail.
    assert warehouse.rows(
        "select count(*) from raw.device_telemetry where payload::text like '%canary%'"
    ) == [(3,)]
    assert "E_KEY_NOT_TEXT" in told[0]
    assert not [text for text in told if secret in text or data.hex() in text]
