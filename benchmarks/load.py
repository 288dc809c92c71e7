"""``cdw load`` beside the Debezium JDBC sink, and beside what no loader can go below, in one run.

``make bench-load`` prints tables of records a second, of ratios, of CPU time a record and of where it goes: from a
real broker, into a real Postgres with its fsync on and into DuckDB, the same messages for all. ``--scale 0.1`` does
it with a tenth of them.
"""

import argparse
import itertools
import logging
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import psycopg
import pyarrow as pa
import structlog
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.decode import make_oru
from loaders.gate import Gate
from loaders.hl7.decoder import decode
from loaders.hl7.publish import publish_message
from loaders.kafka.pending import Draft
from loaders.kafka.records import Sorter
from loaders.kafka.source import KafkaSource
from loaders.load import load_kafka
from loaders.profile import find_target
from loaders.topics import Topic, load_topics
from loaders.warehouse import open_warehouse
from loaders.warehouse.duckdb import DuckdbWarehouse
from loaders.warehouse.postgres import PostgresWarehouse
from loaders.warehouse.sql import SqlWarehouse
from tests.parts.connect import Worker
from tests.parts.kafka import Cluster
from tests.parts.postgres import Server
from tests.parts.process import PROJECT

TELEMETRY, HL7, WITH_SCHEMA = "device.telemetry", "hl7.messages", "telemetry.with-schema"
RECORDS, RESULTS = 1_000_000, 60_000
"""Readings and HL7 messages of one measurement."""
BACKLOG = 5_000_000
SINK_RECORDS = 400_000
"""The sink's rate is taken over the last three quarters of them: its code is compiled by then."""
ROUNDS = 3
PARTITIONS = 4
CHUNK = 50_000
TARGETS = ("postgres", "duckdb")
CDW = Path(sys.executable).with_name("cdw")
SINK = "io.debezium:debezium-connector-jdbc:3.5.0.Final"
"""The newest of which all parts are published."""

_TICKS = os.sysconf("SC_CLK_TCK")
_to_json = msgspec.json.Encoder().encode


# What is loaded


def telemetry(folder: Path, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of readings as the simulator makes them, by device time, none of them garbage."""
    hours = max(12, count // (3 * 120 * 100) + 1)  # three metrics every 30 seconds; the defect takes hours
    command = [str(CDW), "simulate", "--out", str(folder), "--patients", "100", "--hours", str(hours)]
    subprocess.run([*command, "--defect", "clogged_filter:DEV-0003"], check=True, capture_output=True)
    with (folder / f"{TELEMETRY}.jsonl").open("rb") as lines:
        for line in lines:
            yield line.split(b'"', 4)[3], line[:-1]


def messages(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of decoded HL7 results with 5 to 25 OBX, as ``cdw ingest`` publishes them."""
    rng = random.Random(1)
    different = [
        _to_json(publish_message(decode(make_oru(rng, rng.randrange(5, 26)))))
        for _ in range(min(count, 5_000))
    ]
    for number in range(count):
        yield b"%d" % (number % 997), different[number % len(different)]


def with_schema(records: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Readings as Kafka Connect's JSON converter wants them: each with the schema it is written in."""
    kinds = {
        "device_id": "string",
        "patient_id": "string",
        "ts": "string",
        "metric_name": "string",
        "metric_value": "double",
        "unit": "string",
        "software_version": "string",
        "sequence": "int64",
    }
    fields = [{"field": name, "type": kind, "optional": True} for name, kind in kinds.items()]
    schema = msgspec.Raw(_to_json({"type": "struct", "optional": False, "fields": fields}))
    for key, value in records:
        reading = msgspec.json.decode(value)
        reading["ts"] = str(reading["ts"])
        yield key, _to_json({"schema": schema, "payload": reading})


def fill(kafka: Cluster, topic: str, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Put records into a topic; return their bytes."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 50, "batch.size": 1_000_000})
    size = 0
    for key, value in records:
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        size += len(value)
    assert producer.flush(60) == 0
    return size


# What is measured


@dataclass
class Cost:
    """What a load took: seconds, CPU seconds by who spent them, and the memory of the loader's process."""

    seconds: float
    cpu: Mapping[str, float]
    megabytes: float = 0.0


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of all its children, those that have ended and been waited for too."""
    try:
        spent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, spent[11:15])) / _TICKS + sum(cpu_seconds(int(child)) for child in children)


def most_megabytes(pid: int) -> float:
    """The most memory a process has had resident."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next(
        (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0
    )


class Bench:
    """The parts, and one environment for all that is run against them."""

    def __init__(self, folder: Path, kafka: Cluster, postgres: Server) -> None:
        """Both servers run; ``folder`` is for files."""
        self.folder = folder
        self.kafka = kafka
        self.postgres = postgres
        assert postgres._process
        self.servers = {"Kafka": kafka.brokers[0].process.pid, "Postgres": postgres._process.pid}
        shutil.copy(PROJECT / "profiles.yml.example", folder / "profiles.yml")
        os.environ |= {
            "CDW_PROJECT_DIR": str(PROJECT),
            "DBT_PROFILES_DIR": str(folder),
            "CDW_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "CDW_DUCKDB_PATH": str(folder / "warehouse.duckdb"),
            **postgres.env,
        }
        self.topics = load_topics(PROJECT)

    @contextmanager
    def fresh(self, target: str) -> Iterator[None]:
        """A warehouse with nothing in it, as the default target; nothing of it stays."""
        os.environ["CDW_TARGET"] = target
        if target == "postgres":
            os.environ["PGDATABASE"] = "bench"
            self.postgres.run("create database bench template template0", "checkpoint")
        try:
            yield
        finally:
            if target == "postgres":
                self.postgres.run("drop database bench with (force)")
            else:
                Path(os.environ["CDW_DUCKDB_PATH"]).unlink(missing_ok=True)

    def check(self, topic: Topic, count: int) -> None:
        """All records are there, each once."""
        with open_warehouse(find_target(), read_only=True) as warehouse:
            (found,) = warehouse.rows(
                f"select count(*), (select count(*) from (select distinct _partition, _offset from {topic.qualified}) d) "
                f"from {topic.qualified}"
            )
        assert found == (count, count), f"{count} records, {found} rows"

    def load(self, topic: str, count: int) -> Cost:
        """``cdw load --once`` into the default target, less what it takes when there is nothing to load."""
        whole = self._load()
        self.check(self.topics[topic], count)
        nothing = self._load()
        return Cost(
            whole.seconds - nothing.seconds,
            {who: spent - nothing.cpu[who] for who, spent in whole.cpu.items()},
            whole.megabytes,
        )

    def _load(self) -> Cost:
        before = {name: cpu_seconds(pid) for name, pid in self.servers.items()}
        begun = time.perf_counter()
        command = [str(CDW), "load", "--once", "--start", "earliest"]
        said = self.folder / "said"
        with said.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream)
        most = 0.0
        while not (waited := os.wait4(process.pid, os.WNOHANG))[0]:
            most = max(most, most_megabytes(process.pid))
            time.sleep(0.05)
        seconds = time.perf_counter() - begun
        _, status, usage = waited
        if status:
            raise SystemExit(f"failed: {' '.join(command)}\n{said.read_text()}")
        cpu = {name: cpu_seconds(pid) - before[name] for name, pid in self.servers.items()}
        return Cost(seconds, {"loader": usage.ru_utime + usage.ru_stime, **cpu}, most)


# The limits


def consume(bench: Bench, topic: str, count: int) -> Iterator[list[Message]]:
    """Consume all of a topic as the loader does, and nothing else."""
    consumer = Consumer(
        {
            "bootstrap.servers": bench.kafka.bootstrap,
            "group.id": "limit",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": 16_384,
        }
    )
    with closing(consumer):
        consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        left = count
        while left:
            found = consumer.consume(5_000, 0.1)
            left -= len(found)
            yield found


def consume_and_validate(bench: Bench, topic: str, count: int) -> float:
    """Seconds for the first half of the serial limit."""
    check = Gate(bench.topics[topic], 4_000_000).check
    check(b"{}")  # the gate makes something when it is first used
    begun = time.perf_counter()
    for found in consume(bench, topic, count):
        for message in found:
            value = message.value()
            assert isinstance(value, bytes)
            assert check(value) is None
    return time.perf_counter() - begun


def rows(bench: Bench, topic: str, count: int) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of a topic's table, in chunks."""
    now = datetime(2026, 1, 1)
    chunk: list[tuple[Any, ...]] = []
    for found in consume(bench, topic, count):
        for message in found:
            key, at = message.key(), datetime(1970, 1, 1) + timedelta(milliseconds=message.timestamp()[1])
            assert isinstance(key, bytes)
            place = (topic, "id", message.partition(), message.offset(), at, "CreateTime", key.decode())
            chunk.append((*place, None, message.value(), 1, now))
        if len(chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def copy(bench: Bench, topic: str, count: int) -> float:
    """Seconds for a binary COPY of rows that lie ready, in one transaction."""
    table = bench.topics[topic].qualified
    types = [
        "text",
        "text",
        "int4",
        "int8",
        "timestamp",
        "text",
        "text",
        "text",
        "bytea",
        "int8",
        "timestamp",
    ]
    seconds = 0.0
    with bench.postgres.connect("bench") as connection:
        connection.autocommit = False
        for chunk in rows(bench, topic, count):
            begun = time.perf_counter()
            with connection.cursor().copy(f"copy {table} from stdin (format binary)") as stream:
                stream.set_types(types)  # of the JSON too: the same bytes on the wire, and no dumps()
                for row in chunk:
                    stream.write_row(row)
            seconds += time.perf_counter() - begun
        begun = time.perf_counter()
        connection.commit()
        return seconds + time.perf_counter() - begun


def append(bench: Bench, topic: str, count: int) -> float:
    """Seconds for an append of Arrow tables that lie ready, in one transaction, and the file closed."""
    table = bench.topics[topic].qualified
    kinds = [pa.string(), pa.string(), pa.int32(), pa.int64(), pa.timestamp("us"), pa.string(), pa.string()]
    kinds += [pa.string(), pa.string(), pa.int64(), pa.timestamp("us")]
    seconds = 0.0
    connection = duckdb.connect(os.environ["CDW_DUCKDB_PATH"], config={"memory_limit": "600MB"})
    connection.begin()
    names = [row[0] for row in connection.execute(f"describe {table}").fetchall()]
    for chunk in rows(bench, topic, count):
        arrays = [
            pa.array(column, kind) for column, kind in zip(zip(*chunk, strict=True), kinds, strict=True)
        ]
        incoming = pa.table(arrays, names=names)
        begun = time.perf_counter()
        connection.register("incoming", incoming)
        connection.execute(f"insert into {table} select * from incoming")
        connection.unregister("incoming")
        seconds += time.perf_counter() - begun
    begun = time.perf_counter()
    connection.commit()
    connection.close()
    return seconds + time.perf_counter() - begun


def bare(bench: Bench, target: str, topic: str, count: int) -> float:
    """Seconds for what no loader can go below, into tables of the loader's own layout."""
    with bench.fresh(target):
        with open_warehouse(find_target()) as warehouse:
            warehouse.prepare(list(bench.topics.values()))
        seconds = (copy if target == "postgres" else append)(bench, topic, count)
        bench.check(bench.topics[topic], count)
    return seconds


# The JDBC sink

_TEXT = "org.apache.kafka.connect.storage.StringConverter"
_COORDINATES = ("topic", "partition", "offset")
_AS_TEXT = {
    # The messages as they are: the value is one column of text, and where it stood are others.
    "value.converter": _TEXT,
    "transforms": "value,place",
    "transforms.value.type": "org.apache.kafka.connect.transforms.HoistField$Value",
    "transforms.value.field": "payload",
    "transforms.place.type": "org.apache.kafka.connect.transforms.InsertField$Value",
    **{f"transforms.place.{name}.field": f"_{name}" for name in (*_COORDINATES, "timestamp")},
}
_UPSERT = {"insert.mode": "upsert", "primary.key.mode": "kafka"}
SINKS = {
    "columns, upsert": (WITH_SCHEMA, {**_UPSERT, "value.converter.schemas.enable": "true"}),
    "text, upsert": (TELEMETRY, {**_AS_TEXT, **_UPSERT}),
    "text, insert": (TELEMETRY, {**_AS_TEXT, "dialect.postgres.unnest.insert.enabled": "true"}),
}
"""How the sink may be set up: from the way that repeats nothing to the fastest one there is."""


class Sink:
    """A Connect worker with the sink as its plugin."""

    def __init__(self, bench: Bench) -> None:
        """Make the worker, which is not started yet."""
        self._bench = bench
        folder = bench.folder / "connect"
        folder.mkdir()
        self.worker = Worker(bench.kafka, folder, {"jdbc": [SINK]}, env={"SINK": bench.postgres.password})
        for jar in (folder / "plugins" / "jdbc").glob("jackson-*"):
            jar.unlink()  # the worker's own, and the two do not go together

    def load(self, topic: str, settings: Mapping[str, str], count: int) -> Cost:
        """Seconds and CPU time for as many records as ``count``, once it runs."""
        server = self._bench.postgres
        pids = {"loader": self.worker.process.pid, **self._bench.servers}
        name = f"sink-{time.time_ns()}"
        config = {
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
            "tasks.max": PARTITIONS,
            "topics": topic,
            "connection.url": f"jdbc:postgresql://{server.host}:{server.port}/bench?reWriteBatchedInserts=true",
            "connection.username": server.user,
            "connection.password": "${env:SINK}",
            "schema.evolution": "basic",
            "collection.name.format": "sink",
            "batch.size": 3_000,
            "consumer.override.max.poll.records": 3_000,
            "key.converter": _TEXT,
            **settings,
        }
        server.run("create database bench template template0", "checkpoint")
        server.dbname = "bench"
        try:
            self.worker.request("PUT", f"/connectors/{name}/config", config)
            first: tuple[float, int, Mapping[str, float]] | None = None
            while True:
                time.sleep(0.5)
                now, loaded = time.perf_counter(), self._loaded(name)
                cpu = {who: cpu_seconds(pid) for who, pid in pids.items()}
                if first is None and loaded >= count / 4:
                    first = now, loaded, cpu
                if first and first[1] > count * 0.8:
                    raise SystemExit("the sink was done before it could be measured: take a larger --scale")
                if first and loaded > count * 0.9:
                    share = count / (loaded - first[1])
                    spent = {who: (cpu[who] - first[2][who]) * share for who in pids}
                    return Cost((now - first[0]) * share, spent, most_megabytes(pids["loader"]))
        finally:
            self.worker.request("DELETE", f"/connectors/{name}")
            server.dbname = "postgres"
            time.sleep(1)
            server.run("drop database bench with (force)")

    def _loaded(self, name: str) -> int:
        status = self.worker.request("GET", f"/connectors/{name}/status")
        assert all(task["state"] != "FAILED" for task in status["tasks"]), status
        try:
            return int(self._bench.postgres.rows("select count(*) from sink")[0][0])
        except psycopg.errors.UndefinedTable:
            return 0


# Where the time goes


def profile(bench: Bench, topic: str, count: int) -> dict[str, tuple[float, float]]:
    """Microseconds a record by step of a load in this process: on the clock, and of this thread's CPU time."""
    spent: dict[str, list[float]] = {}
    steps: list[tuple[Any, str, str]] = [
        (KafkaSource, "poll", "fetch"),
        (Sorter, "sort", "gate and records"),
        (Draft, "batch", "hash"),
        (SqlWarehouse, "_move_position", "positions and batch rows"),
        (SqlWarehouse, "_insert_batch", "positions and batch rows"),
        (DuckdbWarehouse if os.environ["CDW_TARGET"] == "duckdb" else PostgresWarehouse, "_append", "append"),
        (SqlWarehouse, "load", "transaction"),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in steps]
    for owner, name, step in steps:
        setattr(owner, name, _timed(getattr(owner, name), spent.setdefault(step, [0.0, 0.0])))
    begun, cpu_begun = time.perf_counter(), time.thread_time()
    try:
        load_kafka(start="earliest", is_once=True)
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
    spent["all"] = [time.perf_counter() - begun, time.thread_time() - cpu_begun]
    gate = Gate(bench.topics[topic], 4_000_000)
    values = [message.value() for found in consume(bench, topic, min(count, CHUNK)) for message in found]
    checked: list[float] = [0.0, 0.0]
    _timed(lambda: [gate.check(value) for value in values if isinstance(value, bytes)], checked)()
    spent["gate"] = [seconds * count / len(values) for seconds in checked]
    for step, whole, parts in (
        ("records", "gate and records", ["gate"]),
        ("begin, commit", "transaction", ["append", "positions and batch rows"]),
    ):
        rest = spent.pop(whole)
        spent[step] = [rest[clock] - sum(spent[part][clock] for part in parts) for clock in (0, 1)]
    return {step: (wall / count * 1e6, cpu / count * 1e6) for step, (wall, cpu) in spent.items()}


def _timed(function: Callable[..., Any], into: list[float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:
        begun, cpu = time.perf_counter(), time.thread_time()
        try:
            return function(*arguments, **named)
        finally:
            into[0] += time.perf_counter() - begun
            into[1] += time.thread_time() - cpu

    return timed


# The tables


@dataclass
class Round:
    """One time each, in turn."""

    validated: float
    ours: dict[str, Cost]
    bare: dict[str, float]


def rounds(bench: Bench, topic: str, count: int, size: int) -> None:
    """Print what our loader does, beside the limits."""
    found = []
    for _ in range(ROUNDS):
        this = Round(consume_and_validate(bench, topic, count), {}, {})
        for target in TARGETS:
            with bench.fresh(target):
                this.ours[target] = bench.load(topic, count)
            this.bare[target] = bare(bench, target, topic, count)
        found.append(this)
    for target in TARGETS:
        costs = [this.ours[target] for this in found]
        rate = count / middle(cost.seconds for cost in costs)
        serial = middle((this.validated + this.bare[target]) / this.ours[target].seconds for this in found)
        alone = middle(this.bare[target] / this.ours[target].seconds for this in found)
        print(
            f"| {topic}, {size / count:,.0f} bytes | {target} | {rate:,.0f} | {rate * size / count / 1e6:.0f} "
            f"| {serial:.0%} | {alone:.0%} | {cpu_cells(costs, count)} |",
            flush=True,
        )


def sinks(bench: Bench, count: int, sink_count: int) -> None:
    """Print what the JDBC sink does, beside our loader into the same Postgres."""
    ratios: dict[str, list[float]] = {name: [] for name in SINKS}
    costs: dict[str, list[Cost]] = {name: [] for name in SINKS}
    sink = Sink(bench)
    for _ in range(ROUNDS):
        with bench.fresh("postgres"):
            ours = count / bench.load(TELEMETRY, count).seconds
        with sink.worker:
            for name, (topic, settings) in SINKS.items():
                costs[name].append(sink.load(topic, settings, sink_count))
                ratios[name].append(ours * costs[name][-1].seconds / sink_count)
    for name, found in costs.items():
        print(
            f"| {name} | {sink_count / middle(cost.seconds for cost in found):,.0f} | {middle(ratios[name]):.1f} "
            f"| {cpu_cells(found, sink_count)} | {max(cost.megabytes for cost in found):.0f} |",
            flush=True,
        )


def middle(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)


def cpu_cells(costs: list[Cost], count: int) -> str:
    """Microseconds of CPU a record: the loader's, Kafka's, Postgres'."""
    return " | ".join(
        f"{middle(cost.cpu[who] for cost in costs) / count * 1e6:.1f}"
        for who in ("loader", "Kafka", "Postgres")
    )


def head(*names: str) -> None:
    """Begin a table."""
    print(f"\n| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)


def compare(bench: Bench, scale: float) -> None:
    """Print all tables."""
    count, backlog, results, sink_count = (
        int(number * scale) for number in (RECORDS, BACKLOG, RESULTS, SINK_RECORDS)
    )
    print(f"{os.cpu_count()} cores; medians of {ROUNDS} rounds; CPU in µs a record")
    limits = ("of the serial limit", "of the bare append")
    head("records", "into", "records/s", "MB/s", *limits, "CPU: cdw", "Kafka", "Postgres")
    # The loader loads all topics that are there: one at a time is.
    bench.kafka.create_topic(HL7, PARTITIONS)
    rounds(bench, HL7, results, fill(bench.kafka, HL7, messages(results)))
    bench.kafka.delete_topics(HL7)
    readings = telemetry(bench.folder / "topics", backlog)
    bench.kafka.create_topic(TELEMETRY, PARTITIONS)
    rounds(bench, TELEMETRY, count, fill(bench.kafka, TELEMETRY, itertools.islice(readings, count)))

    head("JDBC sink", "records/s", "cdw / sink", "CPU: Connect", "Kafka", "Postgres", "Connect, MB")
    bench.kafka.create_topic(WITH_SCHEMA, PARTITIONS)
    fill(bench.kafka, WITH_SCHEMA, with_schema(copies(bench, sink_count)))
    sinks(bench, count, sink_count)

    head("step", "into", "µs a record", "CPU of the loader's thread")
    for target in TARGETS:
        with bench.fresh(target):
            for step, (wall, cpu) in profile(bench, TELEMETRY, count).items():
                print(f"| {step} | {target} | {wall:.2f} | {cpu:.2f} |", flush=True)

    head("backlog", "into", "seconds", "records/s", "most memory, MB")
    fill(bench.kafka, TELEMETRY, itertools.islice(readings, backlog - count))
    for target in TARGETS:
        with bench.fresh(target):
            cost = bench.load(TELEMETRY, backlog)
        rate = backlog / cost.seconds
        print(
            f"| {backlog:,} | {target} | {cost.seconds:.0f} | {rate:,.0f} | {cost.megabytes:.0f} |",
            flush=True,
        )


def copies(bench: Bench, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the first readings."""
    with (bench.folder / "topics" / f"{TELEMETRY}.jsonl").open("rb") as lines:
        for line in itertools.islice(lines, count):
            yield line.split(b'"', 4)[3], line[:-1]


def main() -> None:
    """Start the parts, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the records")
    scale = parser.parse_args().scale
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with (
        tempfile.TemporaryDirectory(prefix="cdw-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="cdw-postgres-", ignore_cleanup_errors=True) as data,
    ):
        kafka = Cluster(Path(folder) / "kafka")
        # The tests' parts start quickly and run slowly: what is measured gets the better compiler.
        os.environ["_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=4"
        with (
            kafka,
            Server(Path(data), {"fsync": "on", "wal_level": "replica", "max_wal_size": "4GB"}) as postgres,
        ):
            compare(Bench(Path(folder), kafka, postgres), scale)


if __name__ == "__main__":
    main()
