"""From a real Kafka into raw: what arrives is what was sent, and where to begin is never guessed."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from loaders.errors import AwayError, CdwError
from loaders.kafka.load import KafkaLoad, Observer
from loaders.kafka.records import Sorter
from loaders.kafka.seek import seek
from loaders.load import Loaded, load_directory, load_kafka
from loaders.profile import find_target
from loaders.topics import load_topics
from loaders.warehouse import open_warehouse
from loaders.warehouse.protocol import Partition
from tests.conftest import PROJECT, Postgres, Warehouse, use
from tests.kafka.headers import send_with_header
from tests.parts.kafka import Cluster
from tests.parts.process import wait_until

TELEMETRY = "device.telemetry"
PATIENTS = "healthcare.public.patients"
ORIGINALS = "hl7.originals"
SORT = Sorter.sort
READINGS = [b'{"device_id":"D1","ts":%d,"metric_value":1.50}' % number for number in range(7)]


@pytest.fixture(params=["classic", "consumer"])
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each protocol of consumer groups in turn."""
    monkeypatch.setenv("CDW_KAFKA_GROUP_PROTOCOL", request.param)


@pytest.fixture
def broker(kafka: Cluster, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A broker that the loader knows, beside an empty warehouse."""
    monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setenv("CDW_BATCH_SECONDS", "0.1")
    return kafka


def send(broker: Cluster, topic: str, *values: bytes | None, **more: Any) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
    for value in values:
        producer.produce(topic, value, **more)
    assert producer.flush(30) == 0


def load(start: str | None = None) -> Loaded:
    return load_kafka(start=start, is_once=True)  # type: ignore[arg-type]


def offsets(warehouse: Warehouse, table: str = "raw.device_telemetry") -> list[tuple[int, int]]:
    return [
        (partition, offset)
        for partition, offset in warehouse.rows(f"select _partition, _offset from {table} order by 1, 2")
    ]


def books(warehouse: Warehouse) -> Mapping[tuple[str, int], int]:
    """Offsets passed less rows, rejects and what is explained, by topic id and partition: all zero."""
    return {
        (topic_id, partition): left
        for topic_id, partition, left in warehouse.rows(
            "select p.topic_id, p.partition, p.next_offset - p.first_offset "
            "- coalesce(sum(b.row_count + b.reject_count + b.explained_count), 0) "
            "from raw.load_positions p left join raw.load_batches b using (topic_id, partition) "
            "group by p.topic_id, p.partition, p.next_offset, p.first_offset"
        )
    }


@pytest.mark.usefixtures("protocol")
def test_all_that_a_record_is_arrives(broker: Cluster, warehouse: Warehouse) -> None:
    broker.create_topic(TELEMETRY, 1, {"message.timestamp.type": "LogAppendTime"})
    broker.create_topic(PATIENTS, 1, {"retention.ms": "-1"})
    broker.create_topic(ORIGINALS)
    headers = [("trace", b"one"), ("trace", b"\xff"), ("none", None)]
    send(broker, TELEMETRY, b' {"device_id" : "D1"}\n', key=b"D1", headers=headers)
    send(broker, TELEMETRY, b"{", key=b"\xffD1", headers=[("h", b"x")])
    send(broker, TELEMETRY, READINGS[0], key=b"\xff\x00")
    send(
        broker, PATIENTS, b'{"payload":{"op":"d","before":{"id":1},"after":null}}', None, timestamp=86_400_000
    )
    send(broker, ORIGINALS, b"MSH|\x00\xff", key=b"abc")
    before = datetime.now(UTC).replace(tzinfo=None)
    loaded = load("earliest")
    assert loaded.rejects == {(TELEMETRY, "E_NOT_JSON"): 1, (TELEMETRY, "E_KEY_NOT_TEXT"): 1}

    [(topic, topic_id, timestamp, kind, key, found, payload)] = warehouse.rows(
        "select _topic, _topic_id, _timestamp, _timestamp_type, _key, _headers::text, payload::text "
        "from raw.device_telemetry"
    )
    assert (topic, topic_id, kind, key) == (TELEMETRY, broker.topic_id(TELEMETRY), "LogAppendTime", "D1")
    assert abs((before - timestamp).total_seconds()) < 600
    assert payload == ' {"device_id" : "D1"}\n'
    assert json.loads(found) == [
        {"key": "trace", "value": "one"},
        {"key": "trace", "base64": base64.b64encode(b"\xff").decode()},
        {"key": "none", "value": None},
    ]
    assert warehouse.rows(
        "select reason, _offset, bytes, _key, _key_bytes, _headers::text "
        "from raw_restricted.rejected_records order by _offset"
    ) == [
        ("E_NOT_JSON", 1, b"{", None, b"\xffD1", '[{"key":"h","value":"x"}]'),
        ("E_KEY_NOT_TEXT", 2, READINGS[0], None, b"\xff\x00", None),
    ]
    rows = warehouse.rows(
        "select _offset, _timestamp, _timestamp_type, payload::text "
        "from raw.healthcare_public_patients order by 1"
    )
    assert rows == [
        (0, datetime(1970, 1, 2), "CreateTime", '{"payload":{"op":"d","before":{"id":1},"after":null}}'),
        (1, datetime(1970, 1, 2), "CreateTime", None),
    ]
    assert warehouse.rows("select bytes, _key from raw_restricted.hl7_originals") == [
        (b"MSH|\x00\xff", "abc")
    ]
    assert set(books(warehouse).values()) == {0}


def test_a_topic_and_a_directory_give_the_same_rows(
    broker: Cluster, warehouse: Warehouse, tmp_path: Path
) -> None:
    lines = [*READINGS, b"null", b"{", b'{"a":"\\u0000"}']
    (tmp_path / f"{TELEMETRY}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    load_directory(tmp_path)
    broker.create_topic(TELEMETRY)
    send(broker, TELEMETRY, *lines)
    load("earliest")
    for select in (
        "select _offset, payload::text from raw.device_telemetry where _topic_id {} '{}' order by 1",
        "select _offset, reason, bytes, sha256 from raw_restricted.rejected_records "
        "where _topic_id {} '{}' order by 1",
        "select first_offset, next_offset, row_count, reject_count, explained_count, sha256 "
        "from raw.load_batches where topic_id {} '{}'",
    ):
        ours, theirs = [
            warehouse.rows(select.format(sign, broker.topic_id(TELEMETRY))) for sign in ("=", "<>")
        ]
        assert ours == theirs
        assert ours


def test_a_first_start_is_explicit(broker: Cluster, warehouse: Warehouse) -> None:
    broker.create_topic(TELEMETRY, 2)
    send(broker, TELEMETRY, *READINGS[:3], partition=1)
    with pytest.raises(CdwError, match="no position to go on from") as caught:
        load()
    assert "--start earliest" in caught.value.do
    load("latest")
    assert offsets(warehouse) == []
    send(broker, TELEMETRY, *READINGS[3:5], partition=1)
    # Now there are positions, and nothing else counts.
    load("earliest")
    assert offsets(warehouse) == [(1, 3), (1, 4)]
    assert set(books(warehouse).values()) == {0}


def test_a_first_start_is_the_same_for_all_partitions(broker: Cluster, warehouse: Warehouse) -> None:
    """Whoever comes first begins in all of them: a second loader finds nothing that looks added later."""
    broker.create_topic(TELEMETRY, 2)
    broker.create_topic(PATIENTS)
    for partition in (0, 1):
        send(broker, TELEMETRY, *READINGS[: 2 + partition], partition=partition)
    with pytest.raises(CdwError, match="no position to move") as caught:
        seek(None, TELEMETRY, "latest")
    assert "cdw load --start" in caught.value.do
    load("latest")
    assert warehouse.rows("select topic, partition, next_offset from raw.load_positions order by 1, 2") == [
        (TELEMETRY, 0, 2),
        (TELEMETRY, 1, 3),
        (PATIENTS, 0, 0),
    ]
    # As if a loader that began with the others had left one partition alone.
    one = next(iter(load_topics(PROJECT).values()))
    with open_warehouse(find_target()) as opened:
        assert opened.positions("another cluster") == []
        opened.begin([(Partition("another cluster", one, "x", 0), 5)])
        opened.begin([(Partition("another cluster", one, "x", 0), 9)])
        assert [row.next_offset for row in opened.positions("another cluster")] == [5]


def test_what_is_added_later_is_loaded_from_its_beginning(broker: Cluster, warehouse: Warehouse) -> None:
    broker.create_topic(TELEMETRY)
    send(broker, TELEMETRY, READINGS[0])
    load("earliest")
    broker.add_partitions(TELEMETRY, 3)
    broker.create_topic(PATIENTS)
    send(broker, TELEMETRY, *READINGS[:2], partition=2)
    send(broker, PATIENTS, b'{"op":"c"}')
    load()
    assert offsets(warehouse) == [(0, 0), (2, 0), (2, 1)]
    assert offsets(warehouse, "raw.healthcare_public_patients") == [(0, 0)]


def test_what_kafka_has_dropped_is_told_and_passed_over_on_demand(
    broker: Cluster, warehouse: Warehouse
) -> None:
    broker.create_topic(TELEMETRY)
    send(broker, TELEMETRY, *READINGS[:2])
    load("earliest")
    send(broker, TELEMETRY, *READINGS[2:])
    broker.delete_records(TELEMETRY, {0: 5})
    with pytest.raises(CdwError, match="offsets 2 to 4") as caught:
        load()
    assert f"cdw seek {TELEMETRY} --partition 0 --to earliest" in caught.value.do
    assert offsets(warehouse) == [(0, 0), (0, 1)]
    assert seek(None, TELEMETRY, "earliest", 0) == [
        f"topic {TELEMETRY}, partition 0: 3 offsets passed over, from 2 to 4"
    ]
    load()
    assert offsets(warehouse) == [(0, 0), (0, 1), (0, 5), (0, 6)]
    assert warehouse.rows("select kind, explained_count from raw.load_batches order by batch_id") == [
        ("load", 0),
        ("skip", 3),
        ("load", 0),
    ]
    assert set(books(warehouse).values()) == {0}


def test_a_topic_made_anew_is_told_and_loaded_on_demand(broker: Cluster, warehouse: Warehouse) -> None:
    broker.create_topic(TELEMETRY)
    send(broker, TELEMETRY, *READINGS[:2])
    load("earliest")
    old = broker.topic_id(TELEMETRY)
    broker.delete_topics(TELEMETRY)
    broker.create_topic(TELEMETRY)
    send(broker, TELEMETRY, *READINGS[:4])
    with pytest.raises(CdwError, match="deleted and made anew") as caught:
        load("earliest")
    assert old in caught.value.what
    assert f"cdw seek {TELEMETRY} --to earliest" in caught.value.do
    seek(None, TELEMETRY, "earliest")
    load()
    assert len(offsets(warehouse)) == 6
    assert set(books(warehouse).values()) == {0}


def test_a_position_beyond_the_end_is_told_and_moved_back_on_demand(
    broker: Cluster, warehouse: Warehouse
) -> None:
    broker.create_topic(TELEMETRY)
    send(broker, TELEMETRY, *READINGS[:3])
    load("earliest")
    # As after a restored backup of Kafka: the topic is the same, and ends before the position.
    warehouse.run("update raw.load_positions set next_offset = 5")
    with pytest.raises(CdwError, match="loaded up to offset 5, but ends at 3") as caught:
        load()
    assert f"cdw seek {TELEMETRY} --partition 0 --to latest" in caught.value.do
    seek(None, TELEMETRY, "latest", 0)
    send(broker, TELEMETRY, *READINGS[3:5])
    load()
    ids = warehouse.rows("select _topic_id, _offset from raw.device_telemetry order by 1, 2")
    again = f"{broker.topic_id(TELEMETRY)}.1"
    assert ids[-2:] == [(again, 3), (again, 4)]


def test_moved_back_all_comes_again_under_an_id_of_its_own(broker: Cluster, warehouse: Warehouse) -> None:
    broker.create_topic(TELEMETRY)
    send(broker, TELEMETRY, *READINGS[:3])
    load("earliest")
    for count in (1, 2):
        seek(None, TELEMETRY, "1")
        load()
        topic_id = f"{broker.topic_id(TELEMETRY)}.{count}"
        found = warehouse.rows(f"select _offset from raw.device_telemetry where _topic_id = '{topic_id}'")
        assert sorted(found) == [(1,), (2,)]
    assert set(books(warehouse).values()) == {0}


@pytest.mark.parametrize(
    ("topic", "to", "partition", "words"),
    [
        ("no.topic", "latest", None, "no topic no.topic in the configuration"),
        (PATIENTS, "latest", None, f"topic {PATIENTS} is not there"),
        (TELEMETRY, "latest", 3, "has no partition 3"),
        (TELEMETRY, "3", None, "has offsets 0 to 1; 3 is none"),
        (TELEMETRY, "soon", None, "has offsets 0 to 7; soon is none"),
    ],
)
def test_what_cannot_be_sought(  # noqa: PLR0917 - fixtures
    broker: Cluster, warehouse: Warehouse, topic: str, to: str, partition: int | None, words: str
) -> None:
    broker.create_topic(TELEMETRY, 2)
    send(broker, TELEMETRY, READINGS[0], partition=1)
    send(broker, TELEMETRY, *READINGS, partition=0)
    load("latest")
    before = warehouse.rows("select * from raw.load_positions")
    with pytest.raises(CdwError, match=words):
        seek(None, topic, to, partition)
    # Also where another partition has that offset.
    assert warehouse.rows("select * from raw.load_positions") == before


def test_properties_that_exactly_once_rests_on_cannot_be_set(
    broker: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "client.properties"
    monkeypatch.setenv("CDW_KAFKA_CONFIG", str(file))
    for line, words in [
        ("auto.offset.reset=latest", "auto.offset.reset is not to be set here"),
        ("isolation.level=read_uncommitted", "isolation.level is not to be set here"),
        ("secret", "not name=value"),
    ]:
        file.write_text(f"# ours\nclient.rack=a\n{line}\n")
        with pytest.raises(CdwError, match=words) as caught:
            load("earliest")
        assert caught.value.where.endswith("line 3")
        assert "secret" not in str(caught.value)
    file.write_text("no.such.property=1\n")
    with pytest.raises(CdwError, match="a Kafka property cannot be used"):
        load("earliest")


def shares(broker: Cluster) -> list[int]:
    """How many partitions each loader has been given."""
    names = [group.group_id for group in broker.admin.list_consumer_groups().result(30).valid]
    groups = [future.result(30) for future in broker.admin.describe_consumer_groups(names).values()]
    return [len(member.assignment.topic_partitions) for group in groups for member in group.members]


def test_once_is_not_done_before_what_another_loader_holds_is_loaded(
    kafka: Cluster, postgres: Postgres, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(postgres, profiles_dir, monkeypatch)
    monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setenv("CDW_KAFKA_GROUP_PROTOCOL", "consumer")  # the broker's session timeout is short there
    kafka.create_topic(TELEMETRY, 4)
    load("latest")
    command = [sys.executable, "-c", "from loaders.cli import main; main()", "load"]
    with ExitStack() as stack:
        # Neither can load, so that each has its share before either is done.
        holder = stack.enter_context(postgres.connect())
        holder.autocommit = False
        holder.execute("lock table raw.load_positions in exclusive mode")
        for partition in range(4):
            send(kafka, TELEMETRY, *READINGS[:2], partition=partition)
        one, once = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, *more], cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
            for more in ([], ["--once"])
        ]
        stack.callback(one.kill)
        stack.callback(once.kill)
        wait_until(lambda: shares(kafka) == [2, 2], "the loaders share the partitions")
        one.send_signal(signal.SIGSTOP)
        holder.rollback()
        assert once.wait(120) == 0
        assert offsets(postgres) == [(partition, offset) for partition in range(4) for offset in (0, 1)]


def test_once_that_is_told_to_stop_has_failed(broker: Cluster) -> None:
    broker.create_topic(TELEMETRY)
    send(broker, TELEMETRY, *READINGS)

    class Stopping(Observer):
        def committed(self, batches: object, seconds: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CDW_BATCH_RECORDS", "3")
        with pytest.raises(CdwError, match="told to stop before the end"):
            load_kafka(start="earliest", is_once=True, observers=[Stopping()])
    assert load().rows[TELEMETRY] == 4


def test_once_does_not_wait_for_good_for_a_kafka_that_went(
    broker: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loaders.kafka.load._LIMIT_ONCE", 3.0)
    monkeypatch.setattr("loaders.kafka.load._QUIET_SECONDS", 1.0)
    monkeypatch.setattr(KafkaLoad, "_is_done", lambda _: broker.stop())
    broker.create_topic(TELEMETRY)
    with pytest.raises(AwayError, match="Kafka cannot be reached"):
        load("earliest")


def test_a_header_whose_name_is_no_text_is_a_reject(
    broker: Cluster, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.create_topic(TELEMETRY)
    send(broker, TELEMETRY, READINGS[0])
    for _ in range(40):  # as often as it takes until Python calls it by a shorter way
        send_with_header(broker, TELEMETRY, READINGS[1], b"na\xffme")
    send(broker, TELEMETRY, READINGS[2])
    # Asked for the same headers again, as when a registry was away while the batch was read.
    monkeypatch.setattr(
        Sorter, "sort", lambda sorter, messages: (SORT(sorter, messages), SORT(sorter, messages))[1]
    )
    load("earliest")
    assert offsets(warehouse) == [(0, 0), (0, 41)]
    assert warehouse.rows(
        "select reason, _headers::text, count(*), count(distinct _offset), min(bytes) "
        "from raw_restricted.rejected_records group by 1, 2"
    ) == [("E_HEADERS", None, 40, 40, READINGS[1])]
