"""Avro through a real schema registry: the same rows as from JSON, and nothing lost while it is away."""

import base64
import json
import sys
import tempfile
import threading
import time as time_module
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from structlog.testing import capture_logs

from loaders.errors import AwayError, CdwError
from loaders.kafka.avro import AvroReader
from loaders.kafka.cluster import Key
from loaders.kafka.load import Observer
from loaders.kafka.patience import Patience
from loaders.kafka.pending import Pending
from loaders.kafka.records import Sorter, open_avro
from loaders.kafka.registry import RegistryAwayError, SchemaRegistry
from loaders.load import load_kafka
from loaders.settings import Settings, load_settings
from loaders.topics import Topic, load_topics
from loaders.warehouse.protocol import Batch, Partition, Position
from tests.conftest import PROJECT, DuckDB, Warehouse, use
from tests.kafka.test_load import books
from tests.parts.kafka import Cluster
from tests.parts.process import free_port
from tests.parts.registry import Registry

TELEMETRY = "device.telemetry"
PRESCRIPTIONS = "healthcare.public.prescriptions"
ORIGINALS = "hl7.originals"
READING = {
    "type": "record",
    "name": "Reading",
    "fields": [{"name": "device_id", "type": "string"}, {"name": "metric_value", "type": "float"}],
}


@pytest.fixture(scope="module")
def _registry() -> Iterator[Registry]:
    with tempfile.TemporaryDirectory(prefix="cdw-registry-") as folder, Registry(Path(folder)) as registry:
        yield registry


@pytest.fixture
def registry(_registry: Registry) -> Registry:
    """A registry that runs; a test may kill it."""
    _registry.start()
    return _registry


@pytest.fixture
def reader(registry: Registry) -> AvroReader:
    return AvroReader(SchemaRegistry(settings(schema_registry_url=registry.url)))


@pytest.fixture
def loader(kafka: Cluster, registry: Registry, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker and a registry that the loader knows, beside an empty warehouse."""
    set_up(kafka, registry, monkeypatch)


@pytest.fixture
def duckdb(
    kafka: Cluster,
    registry: Registry,
    duckdb_path: Path,
    profiles_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> DuckDB:
    """As ``loader``, where one warehouse says it for all."""
    warehouse = DuckDB(duckdb_path)
    use(warehouse, profiles_dir, monkeypatch)
    set_up(kafka, registry, monkeypatch)
    return warehouse


def settings(**own: object) -> Settings:
    return load_settings().model_copy(update=own)


def set_up(kafka: Cluster, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setenv("CDW_BATCH_SECONDS", "0.1")
    monkeypatch.setenv("CDW_SCHEMA_REGISTRY_URL", registry.url)


def avro(registry: Registry, schema: object, value: object, *references: SchemaReference) -> bytes:
    """A value as a sender writes it, the schema registered under a subject of its own."""
    serializer = AvroSerializer(
        SchemaRegistryClient({"url": registry.url}),
        Schema(json.dumps(schema), "AVRO", list(references)),
        conf={"subject.name.strategy": lambda *_: uuid4().hex},
    )
    found = serializer(value, SerializationContext("unused", MessageField.VALUE))
    assert isinstance(found, bytes)
    return found


def send(kafka: Cluster, topic: str, *records: tuple[bytes | None, bytes | None], partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True})
    for key, value in records:
        producer.produce(topic, value, key, partition)
    assert producer.flush(60) == 0


def record(topic: str, partition: int, offset: int, value: bytes) -> Message:
    """A record as Kafka's client gives it."""
    return Message(
        topic=topic,
        partition=partition,
        offset=offset,
        key=b"k",
        value=value,
        headers=None,
        error=None,
        timestamp=(1, 5),
        latency=0.0,
        leader_epoch=0,
    )


def of(kind: str, **more: object) -> dict[str, object]:
    return {"type": kind, **more}


FIXED = of("fixed", name="F", size=2)


@pytest.mark.parametrize(
    ("schema", "value", "text"),
    [
        ("long", 2**63 - 1, "9223372036854775807"),
        ("double", 0.1, "0.1"),
        ("float", 120.35, "120.35"),
        ("float", -4.45, "-4.45"),
        ("float", 16777217.0, "16777216.0"),
        ("float", 3.4028234663852886e38, "3.4028235e+38"),
        (["null", of("float")], 0.3, "0.3"),
        ("boolean", True, "true"),
        (["null", "string"], None, "null"),
        ("string", 'Zoë "\n\U0001f600', '"Zoë \\"\\n\U0001f600"'),
        (of("string", logicalType="uuid"), "A0B1", '"A0B1"'),
        (of("array", items=FIXED), [b"\x00\xff"], '["AP8="]'),
        (of("array", items="bytes"), [b"", b"\x00\xff"], '["","AP8="]'),
        (of("enum", name="E", symbols=["up", "float"]), "float", '"float"'),
        (of("map", values=of("array", items="int")), {"a": [1, 2]}, '{"a":[1,2]}'),
        (
            of("array", items=of("bytes", logicalType="decimal", precision=40, scale=2)),
            [Decimal("12.30"), Decimal("-0.05"), Decimal("12345678901234567890123456789012345678.01")],
            '["12.30","-0.05","12345678901234567890123456789012345678.01"]',
        ),
        (of("fixed", name="D", size=4, logicalType="decimal", precision=9), Decimal(-7), '"-7"'),
        (of("int", logicalType="date"), date(1970, 1, 11), "10"),
        (of("int", logicalType="time-millis"), time(0, 0, 1), "1000"),
        (of("long", logicalType="timestamp-millis"), datetime(1970, 1, 2, tzinfo=UTC), "86400000"),
        (
            of("long", logicalType="timestamp-micros"),
            datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
            '"2026-01-02T03:04:05.000006Z"',
        ),
        (of("long", logicalType="local-timestamp-micros"), datetime(1969, 12, 31), '"1969-12-31T00:00:00"'),
    ],
)
def test_a_value_as_json(
    registry: Registry, reader: AvroReader, schema: object, value: object, text: str
) -> None:
    record = of("record", name="R", fields=[{"name": "x", "type": schema}])
    found = reader.json(avro(registry, record, {"x": value}))
    assert found is not None
    assert found.decode() == f'{{"x":{text}}}'


def test_a_schema_that_refers_to_others(registry: Registry, reader: AvroReader) -> None:
    client = SchemaRegistryClient({"url": registry.url})
    inner = of("record", name="a.Inner", fields=[{"name": "f", "type": "float"}])
    subject = uuid4().hex
    client.register_schema(subject, Schema(json.dumps(inner), "AVRO"))
    outer = of(
        "record",
        name="a.Outer",
        fields=[{"name": "x", "type": "Inner"}, {"name": "y", "type": ["null", "a.Inner"]}],
    )
    value = {"x": {"f": 120.35}, "y": {"f": 0.7}}
    data = avro(registry, outer, value, SchemaReference("a.Inner", subject, 1))
    assert reader.json(data) == b'{"x":{"f":120.35},"y":{"f":0.7}}'


def test_what_cannot_be_read_is_told(registry: Registry, reader: AvroReader) -> None:
    double = avro(registry, of("record", name="R", fields=[{"name": "x", "type": "double"}]), {"x": 1.5})
    assert reader.json(double) == b'{"x":1.5}'
    for data in (
        b"\0",
        double[:-1],
        double + b"\0",
        b"\0" + (2**31 - 1).to_bytes(4, "big") + double[5:],
        b"\0\xff" + double[2:],
        double[:5] + b"\0\0\0\0\0\0\xf8\x7f",  # NaN
        double[:5] + b"\0\0\0\0\0\0\xf0\x7f",  # infinity
        avro(registry, of("string"), "ab")[:6] + b"\xff\xff",
        avro(registry, of("long", logicalType="timestamp-micros"), 2**62),
    ):
        assert reader.json(data) is None
    # Read in C, a long one would end the process.
    chain = of("record", name="Chain", fields=[{"name": "next", "type": ["null", "Chain"]}])
    assert reader.json(avro(registry, chain, {"next": {"next": None}})) is None
    client = SchemaRegistryClient({"url": registry.url})
    no_avro = Schema('{"$schema":"http://json-schema.org/draft-07/schema#","type":"boolean"}', "JSON")
    number = client.register_schema(uuid4().hex, no_avro)
    assert reader.json(b"\0" + number.to_bytes(4, "big") + b"\1") is None


def test_a_schema_registered_later_is_found_then(
    registry: Registry, reader: AvroReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = avro(registry, READING, {"device_id": "D1", "metric_value": 1.5})
    newest = int.from_bytes(known[1:5], "big")
    early = b"\0" + (newest + 1).to_bytes(4, "big") + known[5:]
    assert reader.json(early) is None
    late = avro(registry, READING | {"doc": "another"}, {"device_id": "D1", "metric_value": 1.5})
    assert late == early
    reader.forget_unknown()
    assert reader.json(late) is None
    monkeypatch.setattr("loaders.kafka.avro._UNKNOWN_SECONDS", 0)
    reader.forget_unknown()
    assert reader.json(late) == b'{"device_id":"D1","metric_value":1.5}'


COLUMNS = of(
    "record",
    name="Value",
    fields=[
        {"name": "id", "type": of("int", **{"connect.default": 0}), "default": 0},
        {"name": "prescription_id", "type": ["null", "string"], "default": None},
        {
            "name": "start_date",
            "type": [
                "null",
                of(
                    "long",
                    **{
                        "connect.version": 1,
                        "connect.name": "org.apache.kafka.connect.data.Timestamp",
                        "logicalType": "timestamp-millis",
                    },
                ),
            ],
            "default": None,
        },
        {
            "name": "day",
            "type": ["null", of("int", logicalType="date")],
            "default": None,
        },
        {
            "name": "parameters",
            "type": ["null", of("string", **{"connect.name": "io.debezium.data.Json"})],
            "default": None,
        },
        {"name": "dose", "type": ["null", "double"], "default": None},
    ],
    **{"connect.name": "healthcare.public.prescriptions.Value"},
)
ENVELOPE = of(
    "record",
    name="Envelope",
    namespace="healthcare.public.prescriptions",
    fields=[
        {"name": "before", "type": ["null", COLUMNS], "default": None},
        {"name": "after", "type": ["null", "Value"], "default": None},
        {
            "name": "source",
            "type": of(
                "record",
                name="Source",
                namespace="io.debezium.connector.postgresql",
                fields=[
                    {"name": "ts_ms", "type": "long"},
                    {
                        "name": "snapshot",
                        "type": [
                            of("string", **{"connect.version": 1, "connect.name": "io.debezium.data.Enum"}),
                            "null",
                        ],
                        "default": "false",
                    },
                    {"name": "lsn", "type": ["null", "long"], "default": None},
                ],
            ),
        },
        {"name": "op", "type": "string"},
        {"name": "ts_ms", "type": ["null", "long"], "default": None},
    ],
)
KEY = of("record", name="Key", fields=[{"name": "id", "type": "int"}])


def change(op: str, **row: object) -> dict[str, object]:
    full = {
        "id": 1,
        "prescription_id": None,
        "start_date": None,
        "day": None,
        "parameters": None,
        "dose": None,
        **row,
    }
    is_delete = op == "d"
    return {
        "before": full if is_delete else None,
        "after": None if is_delete else full,
        "source": {"ts_ms": 1_767_225_600_123, "snapshot": "false", "lsn": 2**40},
        "op": op,
        "ts_ms": 1_767_225_600_456,
    }


@pytest.mark.usefixtures("loader")
def test_change_records_are_the_same_rows_as_in_json(
    kafka: Cluster, registry: Registry, warehouse: Warehouse
) -> None:
    changes = [
        change("c", prescription_id="Zoë", start_date=1_767_225_600_001, day=-3652, dose=4.45),
        change("u", parameters='[{"parameter_name":"Pressure","parameter_value":10.0}]'),
        change("d"),
    ]
    kafka.create_topic(PRESCRIPTIONS, 2)
    compact = [json.dumps(each, separators=(",", ":"), ensure_ascii=False).encode() for each in changes]
    send(kafka, PRESCRIPTIONS, *((b'{"id":1}', value) for value in compact), (b'{"id":1}', None))
    key = avro(registry, KEY, {"id": 1})
    values = [avro(registry, ENVELOPE, each) for each in changes]
    send(kafka, PRESCRIPTIONS, *((key, value) for value in values), (key, None), partition=1)
    assert not load_kafka(start="earliest", is_once=True).rejects
    as_json, as_avro = [
        warehouse.rows(
            "select _offset, _key, payload::text from raw.healthcare_public_prescriptions "
            f"where _partition = {partition} order by _offset"
        )
        for partition in (0, 1)
    ]
    assert len(as_json) == 4
    assert as_avro == as_json


def test_avro_passes_the_gate_like_json_and_a_reject_keeps_its_bytes(
    kafka: Cluster, registry: Registry, duckdb: DuckDB
) -> None:
    kafka.create_topic(TELEMETRY)
    kafka.create_topic(ORIGINALS)
    good = avro(registry, READING, {"device_id": "D1", "metric_value": 120.35})
    other_case = of("record", name="R", fields=[{"name": "Device_ID", "type": "string"}])
    key = avro(registry, of("string"), "D1")
    nothing = avro(registry, ["null", "string"], "x")[:5] + b"\0"
    send(kafka, TELEMETRY, (key, good), (b"D1", b'{"device_id":"D1"}'), (None, nothing))
    rejects = [
        ("E_AVRO", good + b"\0"),
        ("E_KEY_CASE", avro(registry, other_case, {"Device_ID": "D1"})),
        ("E_NOT_OBJECT", key),
    ]
    send(kafka, TELEMETRY, (good + b"\0", good), *((key, value) for _, value in rejects))
    send(kafka, ORIGINALS, (b"abc", good))
    loaded = load_kafka(start="earliest", is_once=True)
    assert loaded.rows == {TELEMETRY: 3, ORIGINALS: 1}
    assert duckdb.rows("select _key, payload::text from raw.device_telemetry order by _offset") == [
        ("D1", '{"device_id":"D1","metric_value":120.35}'),
        ("D1", '{"device_id":"D1"}'),
        (None, None),
    ]
    assert duckdb.rows(
        "select reason, bytes, _key, _key_bytes from raw_restricted.rejected_records order by _offset"
    ) == [
        ("E_KEY_NOT_TEXT", good, None, good + b"\0"),
        *((reason, value, "D1", None) for reason, value in rejects),
    ]
    assert duckdb.rows("select bytes from raw_restricted.hl7_originals") == [(good,)]
    assert set(books(duckdb).values()) == {0}


def test_without_a_registry_nothing_is_avro(
    kafka: Cluster, registry: Registry, duckdb: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CDW_SCHEMA_REGISTRY_URL")
    kafka.create_topic(TELEMETRY)
    send(kafka, TELEMETRY, (None, avro(registry, READING, {"device_id": "D1", "metric_value": 1.5})))
    assert load_kafka(start="earliest", is_once=True).rejects.total() == 1
    assert duckdb.rows("select count(*) from raw.device_telemetry") == [(0,)]


class Nurse(Observer):
    """Kills the registry when the first batch is in, and starts it when the loader waits for it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.is_killed = False
        self.waited_for: list[AwayError] = []

    def committed(self, batches: Sequence[Batch], seconds: float | None) -> None:
        if not self.is_killed:
            self.is_killed = True
            self._registry.kill()

    def waiting(self, error: AwayError) -> None:
        self.waited_for.append(error)
        self._registry.start()


def test_a_registry_that_dies_while_loading_costs_nothing(
    kafka: Cluster, registry: Registry, duckdb: DuckDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_BATCH_RECORDS", "5")
    monkeypatch.setenv("CDW_KAFKA_CONFIG", str(tmp_path / "client.properties"))
    (tmp_path / "client.properties").write_text(
        "client.rack=a\nschema.registry.basic.auth.user.info=nobody:asks\n"
    )
    kafka.create_topic(TELEMETRY)
    values = []
    for name in ("One", "Two", "Three"):
        schema = READING | {"name": name}
        values += [avro(registry, schema, {"device_id": f"D{n}", "metric_value": 1.5}) for n in range(5)]
    send(kafka, TELEMETRY, *((None, value) for value in values))
    nurse = Nurse(registry)
    loaded = load_kafka(start="earliest", is_once=True, observers=[nurse])
    assert nurse.waited_for
    assert "schema registry does not answer" in nurse.waited_for[0].what
    assert loaded.rows == {TELEMETRY: 15}
    assert not loaded.rejects
    assert duckdb.rows("select _offset from raw.device_telemetry order by 1") == [(n,) for n in range(15)]
    assert set(books(duckdb).values()) == {0}


@pytest.fixture
def telemetry() -> Topic:
    return load_topics(PROJECT)[TELEMETRY]


def test_what_was_fetched_is_kept_while_the_registry_is_away(telemetry: Topic) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    reader = open_avro(settings(schema_registry_url=url))
    pending = Pending()
    for number, value in enumerate([b"{}", b"\0\0\0\0\1\0"]):
        key = Key(TELEMETRY, number)
        partition = Partition("cluster", telemetry, "id", number)
        pending.add(key, partition, Position(TELEMETRY, "id", number, 0, None))
        pending.message(key, record(TELEMETRY, number, 0, value))
    with pytest.raises(AwayError):
        pending.drafts({TELEMETRY: Sorter(telemetry, 1_000, reader)})
    assert pending.message_count == 2
    drafts = pending.drafts({TELEMETRY: Sorter(telemetry, 1_000)})
    assert [len(draft.rows) + len(draft.rejects) for draft in drafts] == [1, 1]
    assert pending.message_count == 0


class Stub(BaseHTTPRequestHandler):
    """Gives one answer to all questions."""

    answer: ClassVar[tuple[int, bytes]]
    asked_by: ClassVar[str | None]
    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        status, body = self.answer
        self.paths.append(self.path)
        type(self).asked_by = self.headers["Authorization"]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[str]:
    """The address of a server that answers with ``Stub.answer``."""
    Stub.paths.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, b'{"error_code":40101,"message":"SECRET"}', CdwError, "refuses this user"),
        (403, b"SECRET", CdwError, "refuses this user"),
        (404, b"<html>SECRET</html>", CdwError, "no schema registry"),
        (404, b'{"error_code":404,"message":"SECRET"}', CdwError, "no schema registry"),
        (200, b"<html>SECRET</html>", CdwError, "no schema registry"),
        (200, b'["SECRET"]', CdwError, "no schema registry"),
        (429, b"SECRET", RegistryAwayError, "does not answer"),
        (500, b'{"error_code":50001,"message":"SECRET"}', RegistryAwayError, "does not answer"),
        (503, b"", RegistryAwayError, "does not answer"),
    ],
)
def test_what_a_registry_answers_is_told_apart(
    stub: str, status: int, body: bytes, kind: type[CdwError], words: str
) -> None:
    Stub.answer = status, body
    reader = AvroReader(SchemaRegistry(settings(schema_registry_url=f"http://user:SECRET@{stub}")))
    with pytest.raises(kind, match=words) as caught:
        reader.json(b"\0\0\0\0\1\0")
    assert type(caught.value) is kind
    assert caught.value.where == f"schema registry at http://{stub}"
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_negative_id_is_asked_of_nobody(stub: str) -> None:
    Stub.answer = 404, b"no number"
    reader = AvroReader(SchemaRegistry(settings(schema_registry_url=f"http://{stub}")))
    assert reader.json(b"\0\xff\0\0\0\0") is None


def test_credentials_are_the_kafka_file_s(stub: str, tmp_path: Path) -> None:
    Stub.answer = 404, b'{"error_code":40403}'
    file = tmp_path / "client.properties"
    file.write_text("client.rack=a\nschema.registry.basic.auth.user.info=user:secret\n")
    reader = open_avro(settings(schema_registry_url=f"http://{stub}", kafka_config=file))
    assert reader is not None
    assert reader.json(b"\0\0\0\0\1\0") is None
    assert Stub.asked_by == "Basic " + base64.b64encode(b"user:secret").decode()
    for line, words in [
        ("schema.registry.no.such=secret", "or one of its properties, cannot be used"),
        ("schema.registry.ssl.ca.location=/no/such/file", "or one of its properties, cannot be used"),
        ("schema.registry.url=secret", "not to be set here"),
    ]:
        file.write_text(line)
        with pytest.raises(CdwError, match=words) as caught:
            open_avro(settings(schema_registry_url=f"http://{stub}", kafka_config=file))
        assert "secret" not in str(caught.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "loaders.kafka.avro", None)
    with pytest.raises(CdwError, match="not installed") as caught:
        open_avro(settings(schema_registry_url="http://127.0.0.1"))
    assert ".[avro]" in caught.value.do
    assert open_avro(settings()) is None


def test_many_unknown_ids_do_not_cost_a_loader_its_partitions(
    stub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stub.answer = (404, b'{"error_code":40403,"message":"SECRET"}')
    reader = AvroReader(SchemaRegistry(settings(schema_registry_url=f"http://{stub}")))
    # Each look at the clock is 11 seconds after the last one.
    monkeypatch.setattr("loaders.kafka.avro.time", SimpleNamespace(monotonic=count(0, 11).__next__))
    topic = load_topics(PROJECT)[TELEMETRY]
    sorter = Sorter(topic, 1_000_000, reader)
    messages = [record(TELEMETRY, 0, offset, b"\0\0\0\1%c\0" % offset) for offset in range(20)]
    patience = Patience()
    idled: list[float] = []

    def idle(seconds: float) -> None:
        idled.append(seconds)
        assert len(idled) < 10 * len(messages), "it does not come to an end"
        time_module.sleep(seconds)

    patience.idle = idle
    with capture_logs() as told:
        found = patience.until_done(lambda: sorter.sort(messages))
    assert [reject.reason for reject in found.rejects] == ["E_AVRO"] * len(messages)
    assert len(idled) >= len(messages)
    assert len(Stub.paths) == len({*Stub.paths}) == len(messages)
    assert told == []  # nothing has failed
    # Once all is calm, they are forgotten.
    for _ in range(10):
        reader.forget_unknown()
    patience.until_done(lambda: sorter.sort(messages[:1]))
    assert len(Stub.paths) == len(messages) + 1
