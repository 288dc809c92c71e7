"""``cdw ingest FILE…`` into a real Kafka: everything, in order for each patient, or a word about it."""

import base64
import hashlib
import json
import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from loaders.errors import CdwError
from loaders.hl7.publish import HL7_TOPICS, MESSAGES, ORIGINALS, REJECTED
from loaders.ingest import ingest_to_directory, ingest_to_kafka
from loaders.kafka.outgoing import Outgoing
from loaders.kafka.producer import Outbox
from loaders.kafka.topics import ensure_topics
from loaders.settings import Settings, load_settings
from tests.conftest import PROJECT
from tests.kafka.topics import read, values
from tests.parts.kafka import Cluster
from tests.parts.process import wait_until
from tests.parts.proxy import Proxy

EXAMPLES = sorted(str(file) for file in (PROJECT / "examples" / "hl7").glob("*.hl7"))


@pytest.fixture
def settings(kafka: Cluster, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("CDW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    return load_settings()


def message(number: int, patient: int = 1, note: str = "") -> bytes:
    return f"MSH|^~\\&|A|FAC|||1||ORU^R01|{number}|P|2.5\rPID|1||ZZ{patient}^^^F^MR\rNTE|||{note}\r".encode()


def control_id(value: bytes) -> int:
    return int(json.loads(value)["meta"]["control_id"])


def test_kafka_gets_what_a_topic_directory_gets(kafka: Cluster, settings: Settings, tmp_path: Path) -> None:
    counts = ingest_to_kafka(EXAMPLES, settings)
    assert (counts.messages, counts.rejects) == (39, 8)
    ingest_to_directory(EXAMPLES, tmp_path)
    for topic in (MESSAGES, REJECTED):
        assert sorted(values(kafka, topic)) == sorted((tmp_path / f"{topic}.jsonl").read_bytes().splitlines())
    lines = [json.loads(line) for line in (tmp_path / f"{ORIGINALS}.jsonl").read_bytes().splitlines()]
    originals = read(kafka, ORIGINALS)
    assert sorted(record.value or b"" for record in originals) == sorted(
        base64.b64decode(line["bytes"]) for line in lines
    )
    for record in originals:
        assert record.key == hashlib.sha256(record.value or b"").hexdigest().encode()
    for record in read(kafka, REJECTED):
        assert record.key == json.loads(record.value or b"")["sha256"].encode()


def test_one_patients_messages_stay_in_order(
    kafka: Cluster, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_KAFKA_PARTITIONS", "5")
    chance = random.Random("order")
    patients = [chance.randrange(20) for _ in range(3_000)]
    (tmp_path / "feed.hl7").write_bytes(b"".join(message(n, patient) for n, patient in enumerate(patients)))
    ingest_to_kafka([str(tmp_path / "feed.hl7")], load_settings())
    records = read(kafka, MESSAGES)
    assert sorted(control_id(record.value or b"") for record in records) == list(range(3_000))
    assert len({record.partition for record in records}) == 5
    places: dict[int, set[tuple[int, bytes | None]]] = {}
    last: dict[int, int] = {}
    for record in records:
        number = control_id(record.value or b"")
        patient = patients[number]
        places.setdefault(patient, set()).add((record.partition, record.key))
        assert last.get(patient, -1) < number
        last[patient] = number
    assert all(len(place) == 1 for place in places.values())
    assert all(b"ZZ" not in (record.key or b"") for record in records)


def test_the_longest_message_and_the_longest_reject_fit(
    kafka: Cluster, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_MAX_RECORD_BYTES", "1000000")
    # Hexadecimal digits at random, half of which is left by compression: no limit is met by luck.
    long = message(1, note=random.Random("long").randbytes(490_000).hex())
    too_long = message(2, note=random.Random("too long").randbytes(1_980_000).hex())
    many = message(3) + b"".join(b"NTE|%d\r" % n for n in range(50_000))
    (tmp_path / "long.hl7").write_bytes(long + too_long + many)
    counts = ingest_to_kafka([str(tmp_path / "long.hl7")], load_settings())
    assert (counts.messages, counts.rejects) == (1, 2)
    assert sorted(values(kafka, ORIGINALS)) == sorted([long, too_long, many])
    rejected = [json.loads(value) for value in values(kafka, REJECTED)]
    assert [reject["code"] for reject in rejected] == ["E_TOO_LARGE"] * 2


def test_a_topic_that_is_too_small_is_refused_with_the_command_that_mends_it(
    kafka: Cluster, settings: Settings
) -> None:
    kafka.create_topic(MESSAGES)
    kafka.configure_topic(MESSAGES, {"max.message.bytes": "1000000"})
    with pytest.raises(CdwError, match="takes 1000000 bytes a record") as raised:
        ingest_to_kafka(EXAMPLES, settings)
    assert f"--entity-name {MESSAGES} --add-config max.message.bytes=4065536" in raised.value.do
    kafka.configure_topic(MESSAGES, {"max.message.bytes": "4065536"})
    ingest_to_kafka(EXAMPLES, settings)


def test_a_record_that_kafka_refuses_is_told(kafka: Cluster, settings: Settings, tmp_path: Path) -> None:
    ensure_topics(settings, HL7_TOPICS)
    kafka.configure_topic(MESSAGES, {"max.message.bytes": "1000"})
    with pytest.raises(CdwError, match="MSG_SIZE_TOO_LARGE"), Outbox(settings) as outbox:
        outbox.put([Outgoing(MESSAGES, "k", os.urandom(5_000))])


def test_topics_are_made_as_the_settings_say_or_the_refusal_told(
    kafka: Cluster, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_KAFKA_PARTITIONS", "3")
    ensure_topics(load_settings(), [MESSAGES])
    assert len(kafka.end_offsets(MESSAGES)) == 3
    resource = ConfigResource(ResourceType.TOPIC, MESSAGES)
    described = kafka.admin.describe_configs([resource])[resource].result(60)
    assert int(described["max.message.bytes"].value) == 4_065_536
    monkeypatch.setenv("CDW_KAFKA_REPLICATION", "2")
    with pytest.raises(CdwError, match="does not let the topic"):
        ensure_topics(load_settings(), [REJECTED])


def test_a_property_that_librdkafka_does_not_take_is_told(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kafka.properties").write_text("linger.ms=long\n")
    monkeypatch.setenv("CDW_KAFKA_CONFIG", str(tmp_path / "kafka.properties"))
    with pytest.raises(CdwError, match="property cannot be used"):
        ensure_topics(load_settings(), HL7_TOPICS)
    with pytest.raises(CdwError, match="property cannot be used"), Outbox(load_settings()):
        pass


def test_a_kafka_that_is_not_there_is_told_before_a_file_is_read(
    kafka: Cluster, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loaders.kafka.topics._SECONDS", 1)
    kafka.stop()
    with pytest.raises(CdwError, match="Kafka does not answer"):
        ingest_to_kafka(EXAMPLES, settings)
    assert "E_" not in capsys.readouterr().err


@pytest.mark.parametrize("is_there", [False, True])
def test_a_kafka_that_falls_silent_is_told(
    kafka: Cluster, settings: Settings, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    class Client(AdminClient):
        def list_topics(self, *words: Any, **named: Any) -> Any:
            found = super().list_topics(*words, **named)
            kafka.brokers[0].send(signal.SIGSTOP)
            return found

    if is_there:
        kafka.create_topic(MESSAGES)
    monkeypatch.setattr("loaders.kafka.topics._SECONDS", 2)
    monkeypatch.setattr("loaders.kafka.topics.AdminClient", Client)
    try:
        with pytest.raises(CdwError, match="Kafka does not answer"):
            ensure_topics(settings, [MESSAGES])
    finally:
        kafka.brokers[0].kill()  # woken, it would still do what it was asked for


def test_a_kafka_that_goes_away_is_told_and_running_again_completes(
    kafka: Cluster, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_KAFKA_DELIVERY_SECONDS", "2")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    before, after = b"".join(map(message, range(5_000))), b"".join(map(message, range(5_000, 10_000)))

    def feed() -> None:
        with fifo.open("wb") as stream:
            stream.write(before)
            stream.flush()
            wait_until(lambda: MESSAGES in kafka.topics() and kafka.end_offsets(MESSAGES)[0] > 0, "records")
            kafka.brokers[0].kill()
            stream.write(after)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with pytest.raises(CdwError, match="did not acknowledge") as raised:
        ingest_to_kafka([str(fifo)], load_settings())
    feeder.join()
    assert "1||ZZ" not in str(raised.value)
    kafka.start()
    (tmp_path / "all.hl7").write_bytes(before + after)
    assert ingest_to_kafka([str(tmp_path / "all.hl7")], load_settings()).messages == 10_000
    assert {control_id(value) for value in values(kafka, MESSAGES)} == set(range(10_000))
    assert len(set(values(kafka, ORIGINALS))) == 10_000


def test_a_lost_acknowledgment_of_kafka_makes_no_second_record(
    kafka: Cluster, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kafka.properties").write_text("# so that the words can be seen\ncompression.type=none\n")
    monkeypatch.setenv("CDW_KAFKA_CONFIG", str(tmp_path / "kafka.properties"))
    broker = kafka.brokers[0]
    with Proxy(broker.behind, int(broker.proxied.split(":")[1])) as proxy:
        monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", broker.proxied)
        (tmp_path / "feed.hl7").write_bytes(b"".join(message(n, note=f"note{n}.") for n in range(5_000)))
        for number in (1_000, 3_000):
            proxy.lose_answer_to(b"note%d." % number)
            ingest_to_kafka([str(tmp_path / "feed.hl7")], load_settings())
            proxy.wait_for_cut()
    for topic in (MESSAGES, ORIGINALS):
        assert len(values(kafka, topic)) == 2 * 5_000
    assert [control_id(value) for value in values(kafka, MESSAGES)] == [*range(5_000)] * 2


def test_a_paused_kafka_fills_no_memory(
    kafka: Cluster, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_topics(settings, HL7_TOPICS)
    monkeypatch.setattr("loaders.kafka.producer._WINDOW_BYTES", 1_000_000)
    put = 0

    def fill() -> None:
        nonlocal put
        with Outbox(settings) as outbox:
            for number in range(100):
                outbox.put([Outgoing(ORIGINALS, str(number), bytes(100_000))])
                put += 1

    broker = kafka.brokers[0]
    broker.send(signal.SIGSTOP)
    try:
        filler = threading.Thread(target=fill)
        filler.start()
        wait_until(lambda: put >= 10, "a full window")
        filler.join(1)
        assert put == 10
    finally:
        broker.send(signal.SIGCONT)
    filler.join(60)
    assert put == 100
    assert len(values(kafka, ORIGINALS)) == 100
