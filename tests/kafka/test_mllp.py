"""``cdw ingest --mllp`` as a process of its own, between senders and a real Kafka that both misbehave."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import hl7
import pytest
from hl7.client import MLLPClient

from loaders.hl7.publish import MESSAGES, ORIGINALS, REJECTED
from tests.conftest import PROJECT, DuckDB
from tests.kafka.topics import values
from tests.parts.kafka import Cluster
from tests.parts.process import LOCALHOST, SECONDS, free_port, wait_until
from tests.parts.proxy import Proxy
from tests.warehouse.hospital import Runner

DELIVERY_SECONDS = 3


def message(number: int) -> bytes:
    msh = f"MSH|^~\\&|A|FAC|||1||ORU^R01|{number}|P|2.5"
    return f"{msh}\rPID|1||ZZ{number % 9}\rNTE|||Zzcanary {number}\r".encode()


def framed(data: bytes) -> bytes:
    return b"\x0b" + data + b"\x1c\r"


class Listener:
    """A ``cdw ingest --mllp`` that may be stopped, killed and started again."""

    def __init__(self, kafka: Cluster, log: Path) -> None:
        self.port, self._probes = free_port(), free_port()
        self._options = f"--mllp {LOCALHOST}:{self.port} --metrics {LOCALHOST}:{self._probes}".split()
        self._log = log
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("CDW_")
        } | {
            "CDW_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "CDW_KAFKA_DELIVERY_SECONDS": str(DELIVERY_SECONDS),
            "CDW_KAFKA_PARTITIONS": "3",
        }
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def child(self) -> subprocess.Popen[bytes]:
        assert self._child is not None
        return self._child

    def start(self) -> None:
        command = "from loaders.cli import main; main()"
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-c", command, "ingest", *self._options],
                cwd=PROJECT,
                env=self._environment,
                stderr=log,
            )
        wait_until(lambda: self._listens() or self.child.poll() is not None, "a listener")
        assert self.child.poll() is None, self.said()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOCALHOST, self.port)) == 0

    def connect(self) -> socket.socket:
        return socket.create_connection((LOCALHOST, self.port), SECONDS)

    def health(self) -> int:
        """The status that a probe gets; the metrics are there too."""
        connection = HTTPConnection(LOCALHOST, self._probes, timeout=SECONDS)
        connection.request("GET", "/metrics")
        assert b"cdw_mllp_messages_total" in connection.getresponse().read()
        connection = HTTPConnection(LOCALHOST, self._probes, timeout=SECONDS)
        connection.request("GET", "/health")
        return connection.getresponse().status

    def kill(self) -> None:
        self.child.kill()
        self.child.wait(SECONDS)

    def said(self) -> str:
        return self._log.read_text()

    def events(self, name: str) -> list[dict[str, object]]:
        entries = [json.loads(line) for line in self.said().splitlines()]
        return [entry for entry in entries if entry["event"] == name]


@pytest.fixture
def listener(kafka: Cluster, tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(kafka, tmp_path / "log")
    listener.start()
    yield listener
    listener.kill()
    # Whatever happened, no log has a word of a message.
    for word in ("canary", "ZZ", "FAC"):
        assert word not in listener.said()


def ask(sender: socket.socket, data: bytes) -> str:
    sender.sendall(framed(data))
    return answer(sender)


def answer(sender: socket.socket) -> str:
    """MSA-1 and MSA-2 of the next answer.

    Raises:
        OSError: the connection ends before.
    """
    frame = b""
    while not frame.endswith(b"\x1c\r"):
        chunk = sender.recv(1)
        if not chunk:
            raise ConnectionResetError
        frame += chunk
    segment = hl7.parse(frame[1:-2].decode()).segment("MSA")
    return f"{segment[1]} {segment[2]}"


def test_another_librarys_sender(kafka: Cluster, listener: Listener) -> None:
    with MLLPClient(LOCALHOST, listener.port) as client:
        for number in range(5):
            received = client.send_message(message(number))
            assert str(hl7.parse(received[1:-2].decode()).segment("MSA")[1]) == "AA"
            assert message(number) in values(kafka, ORIGINALS)  # already
    assert len(values(kafka, MESSAGES)) == 5


def test_a_stop_answers_what_has_come_and_exits_well(kafka: Cluster, listener: Listener) -> None:
    broker = kafka.brokers[0]
    with listener.connect() as sender, listener.connect() as idle:
        assert ask(sender, message(1)) == "AA 1"
        broker.send(signal.SIGSTOP)
        try:
            sender.sendall(framed(message(2)) + framed(message(3)) + framed(message(4))[:20])
            # The other one's place is behind: what came before it has been read.
            idle.sendall(framed(b"no header"))
            wait_until(lambda: listener.events("mllp_rejected"), "the other sender is read")
            listener.child.send_signal(signal.SIGTERM)
            wait_until(lambda: listener.events("mllp_stopping"), "the stop")
            with pytest.raises(OSError):
                listener.connect()
        finally:
            broker.send(signal.SIGCONT)
        assert [answer(sender), answer(sender)] == ["AA 2", "AA 3"]
        assert sender.recv(1) == idle.recv(1) == b""
    assert listener.child.wait(SECONDS) == 0
    assert sorted(values(kafka, ORIGINALS)) == [message(1), message(2), message(3)]
    codes = [json.loads(value)["code"] for value in values(kafka, REJECTED)]
    assert sorted(codes) == ["E_FRAME", "E_NO_MSH"]


def test_a_kafka_that_is_away_is_answered_so_and_a_retry_helps(kafka: Cluster, listener: Listener) -> None:
    broker = kafka.brokers[0]
    with listener.connect() as sender:
        assert ask(sender, message(1)) == "AA 1"
        assert listener.health() == 200
        broker.kill()
        assert ask(sender, message(2)) == "AE 2"
        assert ask(sender, b"MSH|^~\\&|A|FAC|||1|||3|P|2.5\rNTE|||Zzcanary\r") == "AE 3"
        assert listener.health() == 503
        kafka.start()
        said = "AE 2"
        for _ in range(10):  # the producer may find its way back a moment later
            if said == "AE 2":
                said = ask(sender, message(2))
        assert said == "AA 2"
        assert listener.health() == 200
    assert {*values(kafka, ORIGINALS)} == {message(1), message(2)}
    assert len(listener.events("mllp_not_stored")) >= 2


def test_many_senders_at_once(kafka: Cluster, listener: Listener) -> None:
    senders, each = 40, 25

    def talk(number: int) -> None:
        with listener.connect() as sender:
            for count in range(each):
                assert ask(sender, message(number * each + count)) == f"AA {number * each + count}"

    in_threads([partial(talk, number) for number in range(senders)])
    assert sorted(values(kafka, ORIGINALS)) == sorted(message(number) for number in range(senders * each))


def in_threads(jobs: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_senders_cut_anywhere_and_a_listener_killed_at_random(
    kafka: Cluster, listener: Listener, request: pytest.FixtureRequest
) -> None:
    """Every message in the end, none that was acknowledged ever missing, none torn."""
    senders, each = 8, 40
    acknowledged: list[bytes] = []
    is_over = threading.Event()

    def talk(number: int) -> None:
        chance = random.Random(f"{request.node.name} {number}")
        for count in range(each):
            data = message(number * each + count)
            while data not in acknowledged:  # as a sender does that has had no ACK
                try:
                    with listener.connect() as sender:
                        frame = framed(data)
                        if chance.random() < 0.3:
                            sender.sendall(frame[: chance.randrange(len(frame))])
                            continue
                        sender.sendall(frame)
                        if chance.random() < 0.2:
                            continue  # gone before its ACK comes
                        if answer(sender).startswith("AA"):
                            acknowledged.append(data)
                except OSError:
                    is_over.wait(0.05)

    def has_more_than(count: int) -> bool:
        return len(acknowledged) > count

    def harm() -> None:
        chance = random.Random(request.node.name)
        for _ in range(4):
            count = len(acknowledged)
            wait_until(partial(has_more_than, count + 20), "messages")
            is_over.wait(chance.random() * 0.05)
            before = set(acknowledged)
            listener.kill()
            assert before <= set(values(kafka, ORIGINALS))
            listener.start()

    in_threads([harm, *(partial(talk, number) for number in range(senders))])
    sent = {message(number) for number in range(senders * each)}
    assert set(acknowledged) == sent
    assert set(values(kafka, ORIGINALS)) == sent
    decoded = {json.loads(value)["meta"]["sha256"] for value in values(kafka, MESSAGES)}
    assert len(decoded) == senders * each
    assert {json.loads(value)["code"] for value in values(kafka, REJECTED)} <= {"E_FRAME"}


def test_a_message_sent_again_after_a_lost_answer_is_one_in_the_marts(
    kafka: Cluster, listener: Listener, tmp_path: Path, profiles_dir: Path
) -> None:
    data = (PROJECT / "examples" / "hl7" / "northfield_oru_labs.hl7").read_bytes()
    with Proxy((LOCALHOST, listener.port)) as proxy:
        proxy.lose_answer_to(b"NF000020")
        with socket.create_connection((proxy.host, proxy.port), SECONDS) as sender, pytest.raises(OSError):
            ask(sender, data)
        with socket.create_connection((proxy.host, proxy.port), SECONDS) as sender:
            assert ask(sender, data) == "CA NF000020"
    assert values(kafka, ORIGINALS) == [data, data]
    warehouse = DuckDB(tmp_path / "warehouse.duckdb")
    env = {**warehouse.env, "CDW_TARGET": "duckdb", "CDW_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}
    runner = Runner(tmp_path, profiles_dir, env)
    runner.check("cdw", "load", "--once", "--start", "earliest")
    runner.dbt("build", "--select", "+fact_observations", "--exclude-resource-type", "test", "unit_test")
    assert warehouse.rows("select count(*) from raw.hl7_messages") == [(2,)]
    assert warehouse.rows("select count(*) from staging.stg_hl7__messages") == [(1,)]
    assert warehouse.rows("select count(*), count(distinct observation_key) from core.fact_observations") == [
        (6, 6)
    ]
