"""The real parts do what the tests that lean on them believe."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.conftest import PROJECT
from tests.parts.kafka import Cluster
from tests.parts.postgres import Server
from tests.parts.process import wait_until
from tests.parts.proxy import Proxy

COUNT = 1_000


def produce(bootstrap: str, count: int = COUNT) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0})
    for number in range(count):
        producer.produce("t", b"%d" % number, b"%d" % (number % 7))
    assert producer.flush(60) == 0


def consume(bootstrap: str, partitions: int, count: int = COUNT) -> list[bytes]:
    """As many records of topic t as there should be, from its beginning."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "log_level": 0})
    consumer.assign([TopicPartition("t", each, 0) for each in range(partitions)])
    values: list[bytes] = []

    def has_all() -> bool:
        for message in consumer.consume(count, 0.5):
            assert message.error() is None
            values.append(message.value() or b"")
        return len(values) >= count

    wait_until(has_all, f"{count} records")
    consumer.close()
    return values


def test_a_killed_broker_comes_back_with_its_records(kafka: Cluster) -> None:
    kafka.create_topic("t", 3)
    produce(kafka.bootstrap)
    kafka.brokers[0].kill()
    assert not kafka.brokers[0].is_alive()
    kafka.start()
    assert sorted(consume(kafka.bootstrap, 3), key=int) == [b"%d" % number for number in range(COUNT)]
    assert sum(kafka.end_offsets("t").values()) == COUNT


def test_a_topic_made_again_is_another(kafka: Cluster) -> None:
    kafka.create_topic("t")
    first = kafka.topic_id("t")
    produce(kafka.bootstrap, 5)
    kafka.delete_records("t", {0: 2})
    assert (kafka.begin_offsets("t"), kafka.end_offsets("t")) == ({0: 2}, {0: 5})
    kafka.delete_topics("t")
    assert kafka.topics() == []
    kafka.create_topic("t")
    kafka.add_partitions("t", 2)
    assert kafka.topic_id("t") != first
    assert kafka.end_offsets("t") == {0: 0, 1: 0}


def test_retention_passes(kafka: Cluster) -> None:
    kafka.create_topic("t", config={"segment.bytes": "1048576"})
    produce(kafka.bootstrap, 5)
    kafka.configure_topic("t", {"retention.ms": "1"})
    wait_until(lambda: kafka.begin_offsets("t") == {0: 5}, "the records have passed")


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_clients_stay_behind_the_proxy_of_a_broker(kafka: Cluster, delay: float) -> None:
    kafka.create_topic("t")
    broker = kafka.brokers[0]
    with Proxy(broker.behind, int(broker.proxied.split(":")[1])) as proxy:
        proxy.delay = delay
        begun = time.monotonic()
        produce(broker.proxied, 10)
        assert len(consume(broker.proxied, 1, 10)) == 10
        assert time.monotonic() - begun >= 4 * delay
        assert proxy.connections >= 2


@pytest.mark.parametrize("end", ["kill", "stop", "stop_fast"])
def test_postgres_comes_back_with_what_was_committed(own_postgres: Server, end: str) -> None:
    own_postgres.run("create table t (n int)", "insert into t values (1)")
    with (
        own_postgres.connect() as connection,
        pytest.raises(psycopg.OperationalError),
        connection.transaction(),
    ):
        connection.execute("insert into t values (2)")
        getattr(own_postgres, end)()
        connection.execute("select 1")
    own_postgres.start()
    assert own_postgres.rows("select n, current_setting('wal_level') from t") == [(1, "logical")]


@pytest.fixture
def proxied(own_postgres: Server) -> Iterator[tuple[Proxy, psycopg.Connection]]:
    """A proxy before Postgres, and a connection through it, in a transaction that has inserted a row."""
    own_postgres.run("create table t (n int)")
    with Proxy((own_postgres.host, own_postgres.port)) as proxy:
        connection = psycopg.connect(
            host=proxy.host,
            port=proxy.port,
            user=own_postgres.user,
            password=own_postgres.password,
            dbname=own_postgres.dbname,
        )
        connection.execute("insert into t values (1)")
        yield proxy, connection
        connection.close()


@pytest.mark.parametrize(("how", "count"), [("cut_before", 0), ("lose_answer_to", 1)])
def test_a_commit_that_is_not_known_to_be_done(
    own_postgres: Server, proxied: tuple[Proxy, psycopg.Connection], how: str, count: int
) -> None:
    proxy, connection = proxied
    getattr(proxy, how)(b"COMMIT")
    with pytest.raises(psycopg.OperationalError):
        connection.commit()
    proxy.wait_for_cut()
    assert own_postgres.rows("select count(*) from t") == [(count,)]


def test_a_proxy_is_late_deaf_and_refuses(
    own_postgres: Server, proxied: tuple[Proxy, psycopg.Connection]
) -> None:
    proxy, connection = proxied
    proxy.delay = 0.1
    begun = time.monotonic()
    connection.execute("select 1")
    assert time.monotonic() - begun >= 0.2
    proxy.is_deaf = True
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        psycopg.connect(host=proxy.host, port=proxy.port, connect_timeout=2)
    proxy.is_deaf = False
    proxy.refuse()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(host=proxy.host, port=proxy.port)
    proxy.accept()
    proxy.delay = 0
    with psycopg.connect(
        host=proxy.host, port=proxy.port, user=own_postgres.user, password=own_postgres.password
    ) as again:
        assert again.execute("select 1").fetchone() == (1,)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_no_server_outlives_the_tests() -> None:
    script = (
        "import pathlib, sys, time; from tests.parts.process import Process;"
        "server = Process(['/bin/sleep', '600'], pathlib.Path('/dev/null'));"
        "print(server.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as tests:
        assert tests.stdout is not None
        server = int(tests.stdout.readline())
        comm = Path(f"/proc/{server}/comm")
        wait_until(lambda: comm.read_text().strip() == "sleep", "it runs")
        os.kill(tests.pid, signal.SIGKILL)
    # Where nobody reaps it, it stays as a zombie.
    wait_until(
        lambda: not comm.exists() or "(sleep) Z" in comm.with_name("stat").read_text(), "the server is gone"
    )
