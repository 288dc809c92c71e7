"""What deletes records, moves them or passes them over says where and how many, never what."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from loaders.cli import main
from loaders.hl7.publish import MESSAGES, ORIGINALS, REJECTED
from loaders.ingest import ingest_to_kafka
from loaders.kafka.topics import ensure_topics
from loaders.load import load_kafka
from loaders.settings import load_settings
from tests.conftest import Postgres, Warehouse
from tests.faults.ledger import CANARY, leaks
from tests.parts.kafka import Cluster

TELEMETRY = "device.telemetry"
READING = '{"device_id":"%s","patient_id":"%s"%s}'
LONG = " " * 1_500
MESSAGE = f"MSH|^~\\&|HIS|EHR|CDW||20260105100000||ADT^A08|C1|P|2.5\rPID|1||{CANARY}||{CANARY}\r"
REFUSE = """
create function refuse() returns trigger language plpgsql as $$ begin
  raise exception using errcode = '22000', message = coalesce(new, old)::text;
end $$
"""

Cdw = Callable[..., tuple[int, str]]


@pytest.fixture
def cdw(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cdw:
    """Runs cdw in this process: exit code and all it said, in which nothing of a record stands."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["cdw", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = "".join(capfd.readouterr())
        assert not leaks(said)
        return int(ended.value.code or 0), said

    return run


def send(kafka: Cluster, *values: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in values:
        producer.produce(TELEMETRY, value.encode(), CANARY.encode(), headers={CANARY: CANARY.encode()})
    assert producer.flush(60) == 0


@pytest.fixture
def filled(kafka: Cluster, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Rows, rejects of the gate and of the decoder, all with the canary; longer ones are taken now."""
    monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    kafka.create_topic(TELEMETRY)
    ensure_topics(load_settings(), [MESSAGES, ORIGINALS, REJECTED])
    monkeypatch.setenv("CDW_MAX_RECORD_BYTES", "1000")
    feed = tmp_path / "feed.hl7"
    feed.write_text(f"{MESSAGE}{MESSAGE}NTE|||{LONG}\r", newline="")
    assert ingest_to_kafka([str(feed)], load_settings()).rejects == 1
    send(kafka, READING % (CANARY, CANARY, ""), READING % (CANARY, CANARY, LONG), CANARY)
    assert sum(load_kafka(start="earliest", is_once=True).rejects.values()) == 3
    monkeypatch.delenv("CDW_MAX_RECORD_BYTES")
    return kafka


def test_seek_says_offsets_only(filled: Cluster, warehouse: Warehouse, cdw: Cdw) -> None:
    assert cdw("seek", TELEMETRY, "--to", "9")[0] == 1
    assert "moved back from offset 3 to 1" in cdw("seek", TELEMETRY, "--to", "1")[1]
    load_kafka(is_once=True)
    send(filled, READING % (CANARY, CANARY, ""))
    assert "1 offsets passed over, from 3 to 3" in cdw("seek", TELEMETRY, "--to", "latest")[1]


@pytest.mark.usefixtures("filled")
def test_replay_and_purge_say_counts_only(warehouse: Warehouse, cdw: Cdw) -> None:
    patient = f"EHR/{CANARY}"
    if isinstance(warehouse, Postgres):
        warehouse.run(
            REFUSE,
            "create trigger refuse before insert or delete on raw.device_telemetry "
            "for each row execute function refuse()",
        )
        assert "2 rejects stay" in cdw("replay", "--reason", "E_TOO_LARGE", "--reason", "E_NOT_JSON")[1]
        assert cdw("purge", "--patient", patient, "--yes")[0] == 1
        warehouse.run("drop trigger refuse on raw.device_telemetry")
    code, said = cdw("replay", "--since", "2000-01-01")
    assert (code, said.splitlines()[-1]) == (0, "1 rejects stay")
    assert "device.telemetry: 1 rows" in said
    assert "1 HL7 messages published" in said
    assert "hl7.originals: 1 rows" in cdw("purge", "--patient", patient, "--dry-run")[1]
    code, said = cdw("purge", "--patient", patient, "--yes")
    assert code == 0
    assert "device.telemetry: 2 rows" in said
    assert "device.telemetry: 1 rejects" in said
    assert cdw("purge", "--before", "2999-01-01", "--yes")[0] == 0
