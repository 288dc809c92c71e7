"""A reject that passes today becomes what it would have been, once; what is still refused stays."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loaders.cli import app
from loaders.gate import Gate
from loaders.ingest import ingest_to_directory
from loaders.load import load_directory
from loaders.profile import find_target
from loaders.replay.choice import Choice
from loaders.replay.run import Replayed, replay
from loaders.topics import load_topics
from loaders.warehouse import open_warehouse
from loaders.warehouse.protocol import Batch, Partition, Record, Reject
from tests.conftest import PROJECT, Warehouse
from tests.warehouse.test_purge import unbalanced

REJECTS = "raw_restricted.rejected_records"
ARRIVAL = datetime(2026, 1, 2, 3, 4, 5, 678901)
LATER = datetime(2026, 2, 1, tzinfo=UTC)
ALL = Choice(since=datetime(2000, 1, 1, tzinfo=UTC))
LONG = b'{"device_id":"D1","note":"' + b"x" * 1_500 + b'"}'
LONGER = LONG.replace(b"x", b"yy")
NULL = b" " * 30 + b"null" + b" " * 29
MESSAGE = "MSH|^~\\&|HIS|SOUTHGATE|CDW||20260105100000||ADT^A08|C{}|P|2.5\rPID|1||{}||ZZBIRCH\rNTE|||{}\r"
TOO_LARGE = Choice(("E_TOO_LARGE",))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "topics"
    folder.mkdir()
    return folder


def put(source: Path, topic: str, *lines: bytes) -> None:
    with (source / f"{topic}.jsonl").open("ab") as file:
        file.writelines(line + b"\n" for line in lines)


def send_again(choice: Choice, directory: Path | None = None) -> Replayed:
    return replay(find_target(), choice, directory)


def offsets(warehouse: Warehouse, table: str) -> list[object]:
    return [found[0] for found in warehouse.rows(f"select _offset from {table} order by 1")]


@pytest.fixture
def refused(warehouse: Warehouse, source: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records that were too large for the loader as it was set, and one that is no JSON."""
    original = b"MSH|" + b"\xff" * 3_000
    value = {"sha256": sha256(original).hexdigest(), "bytes": base64.b64encode(original).decode()}
    put(source, "device.telemetry", b"{}", LONG, b"no JSON", LONGER)
    put(source, "hl7.originals", json.dumps(value).encode())
    monkeypatch.setenv("CDW_MAX_RECORD_BYTES", "1000")
    rejects = load_directory(source, loaded_at=ARRIVAL.replace(tzinfo=UTC)).rejects
    assert sum(rejects.values()) == 4
    monkeypatch.delenv("CDW_MAX_RECORD_BYTES")
    return source


def test_what_passes_becomes_a_row_under_its_own_coordinates(warehouse: Warehouse, refused: Path) -> None:
    ids = dict(warehouse.rows("select topic, topic_id from raw.load_positions"))
    done = send_again(TOO_LARGE)
    assert done == Replayed({"device.telemetry": 2, "hl7.originals": 1}, 0, 0)  # type: ignore[arg-type]
    assert warehouse.rows(
        "select _topic, _topic_id, _partition, _offset, payload::text, _loaded_at from raw.device_telemetry "
        "where _offset > 0 order by _offset"
    ) == [
        ("device.telemetry", ids["device.telemetry"], 0, offset, value.decode(), ARRIVAL)
        for offset, value in ((1, LONG), (3, LONGER))
    ]
    original = b"MSH|" + b"\xff" * 3_000
    assert warehouse.rows("select _offset, sha256, bytes from raw_restricted.hl7_originals") == [
        (0, sha256(original).hexdigest(), original)
    ]
    assert offsets(warehouse, REJECTS) == [2]
    batches = warehouse.rows(
        "select topic, row_count, reject_count, explained_count, first_offset, cluster is null, batch_id "
        "from raw.load_batches where kind = 'replay' order by topic"
    )
    assert [batch[:-1] for batch in batches] == [
        ("device.telemetry", 2, -2, 0, None, False),
        ("hl7.originals", 1, -1, 0, None, False),
    ]
    # Models that look for new rows find them by their batch.
    assert warehouse.rows("select distinct _batch_id from raw.device_telemetry where _offset > 0") == [
        (batches[0][-1],)
    ]
    assert not unbalanced(warehouse)

    # Again there is nothing; and loading goes on where it was.
    assert send_again(ALL) == Replayed(still_rejected=1)
    put(refused, "device.telemetry", b"{}")
    assert load_directory(refused).rows == {"device.telemetry": 1}
    assert len(offsets(warehouse, "raw.device_telemetry")) == 4


def test_rejects_are_chosen(warehouse: Warehouse, refused: Path) -> None:
    put(refused, "device.telemetry", b"[]")
    load_directory(refused, loaded_at=LATER)
    assert send_again(Choice(("E_NOT_JSON", "E_NOT_OBJECT"))) == Replayed(still_rejected=2)
    assert send_again(Choice(since=LATER)) == Replayed(still_rejected=1)
    assert send_again(Choice(("E_TOO_LARGE",), since=LATER)) == Replayed()
    assert send_again(Choice(sha256=sha256(LONG).hexdigest().upper())).rows == {"device.telemetry": 1}
    assert offsets(warehouse, "raw.device_telemetry") == [0, 1]
    assert send_again(ALL).rows == {"device.telemetry": 1, "hl7.originals": 1}


def test_a_portion_is_a_transaction(
    warehouse: Warehouse, refused: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_BATCH_BYTES", "2000")
    send_again(TOO_LARGE)
    assert warehouse.rows("select row_count from raw.load_batches where kind = 'replay'") == [(1,)] * 3


def reject_from_kafka(topic: str, rejects: Sequence[Reject]) -> None:
    partition = Partition("a-cluster", load_topics(PROJECT)[topic], "an-id", 3)
    batch = Batch(partition, 0, len(rejects), [], rejects, 0, 1, "1" * 64, None, ARRIVAL)
    with open_warehouse(find_target()) as opened:
        opened.prepare(list(load_topics(PROJECT).values()))
        opened.load([batch])


def test_what_kafka_added_to_a_record_comes_along(warehouse: Warehouse) -> None:
    time = datetime(2026, 1, 1, 2, 3, 4, 567000)
    headers = '[{"key": "a", "value": "b\\\\n"}]'
    records = [
        Record(0, b'{"a":1}', time, "LogAppendTime", "a\tkey", headers),
        Record(1, NULL, None, None, "", None),
        Record(2, b"{}", key_bytes=b"\xff"),
        Record(3, None, key_bytes=b"\xff"),
    ]
    rejects = [Reject("E_KEY_NOT_TEXT" if record.key_bytes else "E_OLD", record) for record in records]
    reject_from_kafka("device.telemetry", [*rejects, Reject("E_TIMESTAMP", Record(4, b"{}"))])
    assert send_again(ALL) == Replayed({"device.telemetry": 2}, 0, 3)  # type: ignore[arg-type]
    assert warehouse.rows(
        "select _partition, _offset, _timestamp, _timestamp_type, _key, _headers::text, payload::text "
        "from raw.device_telemetry order by 2"
    ) == [
        (3, 0, time, "LogAppendTime", "a\tkey", headers, '{"a":1}'),
        (3, 1, None, None, "", None, None),
    ]
    assert not unbalanced(warehouse)


def test_originals_of_kafka_are_bytes_whatever_they_are(warehouse: Warehouse) -> None:
    values = [b"MSH|\xff\x00", b"null"]
    reject_from_kafka("hl7.originals", [Reject("E_OLD", Record(n, value)) for n, value in enumerate(values)])
    send_again(ALL)
    assert warehouse.rows("select sha256, bytes from raw_restricted.hl7_originals order by _offset") == [
        (sha256(value).hexdigest(), value) for value in values
    ]


def test_what_the_warehouse_refuses_costs_the_others_nothing(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [b'{"a":%d}' % number if number % 4 else b"no JSON" for number in range(9)]
    reject_from_kafka(
        "device.telemetry", [Reject("E_OLD", Record(n, value)) for n, value in enumerate(values)]
    )
    monkeypatch.setattr(Gate, "check", lambda *_: None)
    assert send_again(ALL) == Replayed({"device.telemetry": 6}, 0, 3)  # type: ignore[arg-type]
    assert offsets(warehouse, "raw.device_telemetry") == [1, 2, 3, 5, 6, 7]
    assert offsets(warehouse, REJECTS) == [0, 4, 8]
    assert not unbalanced(warehouse)


def test_rejects_of_a_topic_that_is_no_more_stay(
    warehouse: Warehouse, refused: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = load_topics(PROJECT)
    del topics["device.telemetry"]
    monkeypatch.setattr("loaders.replay.run.load_topics", lambda _: topics)
    assert send_again(TOO_LARGE) == Replayed({"hl7.originals": 1}, 0, 2)  # type: ignore[arg-type]


@pytest.fixture
def undecoded(warehouse: Warehouse, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Messages too large for the decoder as it was set, a short and a long one, and one that never is one."""
    messages = [
        (2_000, MESSAGE.format(1, "P1", "x" * 3_000)),
        (20_000, MESSAGE.format(2, "P2", "y" * 70_000)),
    ]
    for number, (limit, text) in enumerate([*messages, (2_000, "MSH|^~\\&|no type\r"), messages[0]]):
        file = tmp_path / f"feed{number}.hl7"
        file.write_text(text, newline="")
        monkeypatch.setenv("CDW_MAX_RECORD_BYTES", str(limit))
        assert ingest_to_directory([str(file)], source).rejects == 1
    monkeypatch.delenv("CDW_MAX_RECORD_BYTES")
    load_directory(source)
    assert warehouse.rows("select count(*) from raw.hl7_rejected") == [(4,)]
    return source


def messages(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    found = warehouse.rows("select payload::text from raw.hl7_messages")
    values = [json.loads(text) for (text,) in found]
    return sorted((value["meta"]["control_id"], value["meta"]["sha256"]) for value in values)


def test_what_is_a_message_today_is_published_once(warehouse: Warehouse, undecoded: Path) -> None:
    assert send_again(ALL, undecoded) == Replayed(published=2, still_rejected=1)
    load_directory(undecoded)
    texts = [MESSAGE.format(1, "P1", "x" * 3_000), MESSAGE.format(2, "P2", "y" * 70_000)]
    hashes = [sha256(text.encode()).hexdigest() for text in texts]
    assert messages(warehouse) == [("C1", hashes[0]), ("C2", hashes[1])]
    originals = warehouse.rows("select distinct sha256, bytes from raw_restricted.hl7_originals order by 1")
    assert originals == sorted(zip(hashes, (text.encode() for text in texts), strict=True))
    # The rejects are still there; models leave them out, and so does the next replay.
    assert warehouse.rows("select count(*) from raw.hl7_rejected") == [(4,)]
    assert send_again(ALL, undecoded) == Replayed(still_rejected=1)
    assert not load_directory(undecoded).rows
    assert not unbalanced(warehouse)


def test_rejects_of_the_decoder_are_chosen(warehouse: Warehouse, undecoded: Path) -> None:
    assert send_again(Choice(("E_NO_MESSAGE_TYPE",)), undecoded) == Replayed(still_rejected=1)
    [(digest,)] = warehouse.rows("select distinct sha256 from raw_restricted.hl7_originals")
    assert send_again(Choice(sha256=str(digest)), undecoded) == Replayed(published=1)
    assert send_again(Choice(since=datetime(2999, 1, 1, tzinfo=UTC)), undecoded) == Replayed()


def test_bytes_that_are_gone_stay_rejected(warehouse: Warehouse, undecoded: Path) -> None:
    warehouse.run("delete from raw_restricted.hl7_originals")
    assert send_again(TOO_LARGE, undecoded) == Replayed(published=1, still_rejected=1)


def test_bytes_of_another_hash_settle_no_reject(warehouse: Warehouse, source: Path) -> None:
    data = base64.b64encode(MESSAGE.format(1, "P1", "").encode()).decode()
    place = {"code": "E_OLD", "source": "feed", "position": 1, "byte_offset": 0}
    values: list[dict[str, object]] = [
        {"sha256": "0" * 64, "bytes": data},
        {"bytes": data},
        {"sha256": "1" * 64, "bytes": 7},
    ]
    put(source, "hl7.rejected", *(json.dumps({**place, **value}).encode() for value in values))
    load_directory(source)
    assert not send_again(ALL, source).published


def test_nothing_to_publish_asks_nothing_of_kafka(
    warehouse: Warehouse, undecoded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_KAFKA_BOOTSTRAP_SERVERS", "localhost:1")
    assert send_again(Choice(("E_NO_MESSAGE_TYPE",))) == Replayed(still_rejected=1)


def test_the_command(warehouse: Warehouse, refused: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["replay", *words])
        return done.exit_code, done.output

    assert run()[0] == 2
    assert run("--reason", "E_TOO_LARGE", "--since", "2026-01-02") == (
        0,
        "device.telemetry: 2 rows\nhl7.originals: 1 rows\n0 rejects stay\n",
    )
    assert run("--reason", "E_NOT_JSON") == (0, "1 rejects stay\n")
