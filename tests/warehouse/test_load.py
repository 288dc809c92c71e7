"""Topic directories into raw, on every warehouse: each record once, whatever happens between two loads."""

import base64
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from loaders.directory import TopicDirectory
from loaders.errors import CdwError
from loaders.load import load_directory
from loaders.profile import find_target
from loaders.settings import load_settings
from loaders.status import read_status
from loaders.topics import load_topics
from loaders.warehouse import open_warehouse
from loaders.warehouse.protocol import Batch, Record, Reject
from tests.conftest import PROJECT, Warehouse

LINES = [
    b'{"device_id":"D1","metric_value":1.5}',
    b"garbage",
    b"null",
    ' {"a": "\u2028\\t\\\\n%s"}\t\r'.encode(),
    b"",
    b'{"ts":1,"TS":2}',
]
REASONS = {1: "E_NOT_JSON", 4: "E_NOT_JSON", 5: "E_REPEATED_KEY"}
ARRIVAL = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def put(source: Path, *lines: bytes, topic: str = "device.telemetry") -> Path:
    file = source / f"{topic}.jsonl"
    with file.open("ab") as stream:
        stream.writelines(line + b"\n" for line in lines)
    return file


def numbered(*numbers: int) -> list[bytes]:
    return [b'{"sequence":%d}' % number for number in numbers]


def offsets(warehouse: Warehouse, table: str = "raw.device_telemetry") -> list[object]:
    return [row[0] for row in warehouse.rows(f"select _offset from {table} order by 1")]


def test_a_record_is_a_row_or_a_reject(warehouse: Warehouse, source: Path) -> None:
    put(source, *LINES)
    loaded = load_directory(source, loaded_at=ARRIVAL)
    assert loaded.rows == {"device.telemetry": 3}
    assert loaded.rejects == {
        ("device.telemetry", "E_NOT_JSON"): 2,
        ("device.telemetry", "E_REPEATED_KEY"): 1,
    }
    coordinates = "_topic, _partition, _timestamp, _timestamp_type, _key, _loaded_at"
    assert warehouse.rows(
        f"select _offset, payload::text, _headers::text, {coordinates} from raw.device_telemetry order by 1"
    ) == [
        (offset, None if line == b"null" else line.decode(), None, "device.telemetry", 0, None, None, None,
         ARRIVAL.replace(tzinfo=None))
        for offset, line in enumerate(LINES) if offset not in REASONS
    ]  # fmt: skip
    rejects = "raw_restricted.rejected_records"
    assert warehouse.rows(
        f"select _offset, reason, bytes, sha256, {coordinates} from {rejects} order by 1"
    ) == [
        (offset, reason, LINES[offset], sha256(LINES[offset]).hexdigest(), "device.telemetry", 0, None, None,
         None, ARRIVAL.replace(tzinfo=None))
        for offset, reason in REASONS.items()
    ]  # fmt: skip
    everything = "select _topic_id, _batch_id from raw.device_telemetry union all "
    everything += "select _topic_id, _batch_id from raw_restricted.rejected_records"
    assert len(set(warehouse.rows(everything))) == 1


def test_positions_and_batches_tell_what_was_done(
    warehouse: Warehouse, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_BATCH_RECORDS", "4")
    put(source, *LINES)
    load_directory(source, loaded_at=ARRIVAL)
    assert warehouse.rows(
        "select topic, partition, first_offset, next_offset, updated_at from raw.load_positions"
    ) == [("device.telemetry", 0, 0, 6, ARRIVAL.replace(tzinfo=None))]
    first = sha256(b"".join(line + b"\n" for line in LINES[:4])).hexdigest()
    second = sha256(first.encode() + b"".join(line + b"\n" for line in LINES[4:])).hexdigest()
    batches = warehouse.rows(
        "select first_offset, next_offset, row_count, reject_count, explained_count, byte_count, sha256, "
        "previous_sha256 from raw.load_batches order by batch_id"
    )
    sizes = [sum(len(line) + 1 for line in part) for part in (LINES[:4], LINES[4:])]
    assert batches == [(0, 4, 3, 1, 0, sizes[0], first, None), (4, 6, 0, 2, 0, sizes[1], second, first)]


def test_batch_bytes_bound_a_batch(
    warehouse: Warehouse, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_BATCH_BYTES", "30")
    put(source, *numbered(*range(10, 20)))
    load_directory(source)
    assert warehouse.rows("select distinct row_count, byte_count from raw.load_batches") == [(2, 32)]
    assert offsets(warehouse) == list(range(10))


def test_loading_twice_adds_nothing(warehouse: Warehouse, source: Path) -> None:
    put(source, *LINES)
    load_directory(source)
    assert not load_directory(source).rows
    assert offsets(warehouse) == [0, 2, 3]
    assert warehouse.rows("select count(*) from raw.load_batches") == [(1,)]


def test_a_grown_file_adds_its_new_lines(warehouse: Warehouse, source: Path) -> None:
    for number in range(5):
        put(source, *numbered(2 * number, 2 * number + 1))
        assert load_directory(source).rows == {"device.telemetry": 2}
    assert warehouse.rows("select _offset, payload->>'sequence' from raw.device_telemetry order by 1") == [
        (number, str(number)) for number in range(10)
    ]
    assert len(warehouse.rows("select distinct _batch_id from raw.device_telemetry")) == 5


def test_a_line_waits_for_its_end(warehouse: Warehouse, source: Path) -> None:
    file = put(source, *numbered(0))
    with file.open("ab") as stream:
        stream.write(b'{"sequence"')
    assert load_directory(source).rows == {"device.telemetry": 1}
    assert not load_directory(source).rows
    with file.open("ab") as stream:
        stream.write(b":1}\n")
    assert load_directory(source).rows == {"device.telemetry": 1}
    assert warehouse.rows("select payload->>'sequence' from raw.device_telemetry order by _offset") == [
        ("0",),
        ("1",),
    ]
    assert not warehouse.rows("select * from raw_restricted.rejected_records")


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def change_the_first_batch(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"1", b"7", 1))


def change_the_last_batch(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"3", b"7", 1))


def replace_and_grow(file: Path) -> None:
    file.write_bytes(b"".join(line + b"\n" for line in numbered(*range(20, 60))))


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (shorten, "device.telemetry.jsonl shrank"),
        (empty, "device.telemetry.jsonl shrank"),
        (change_the_first_batch, "device.telemetry.jsonl changed underneath: offsets 0 to 1"),
        (change_the_last_batch, "device.telemetry.jsonl changed underneath: offsets 2 to 3"),
        (replace_and_grow, "device.telemetry.jsonl changed underneath"),
        (Path.unlink, "device.telemetry.jsonl was loaded before and is gone"),
    ],
)
def test_a_file_that_does_not_only_grow_is_an_error(
    warehouse: Warehouse,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Path], object],
    what: str,
) -> None:
    monkeypatch.setenv("CDW_BATCH_RECORDS", "2")
    file = put(source, *numbered(0, 1, 2, 3))
    # A topic before it in the configuration: nothing of that may be loaded either.
    put(source, *numbered(0), topic="hl7.messages")
    load_directory(source)
    put(source, *numbered(1), topic="hl7.messages")
    harm(file)
    with pytest.raises(CdwError) as caught:
        load_directory(source)
    assert what in caught.value.what
    assert "nothing was loaded" in caught.value.what
    assert str(file) in caught.value.where
    assert offsets(warehouse) == [0, 1, 2, 3]
    assert offsets(warehouse, "raw.hl7_messages") == [0]


def test_a_warehouse_that_lost_a_batch_is_an_error(
    warehouse: Warehouse, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_BATCH_RECORDS", "2")
    put(source, *numbered(0, 1, 2, 3))
    load_directory(source)
    for harm in ("where first_offset = 2", "where first_offset = 0", ""):
        warehouse.run(f"delete from raw.load_batches {harm}")
        with pytest.raises(CdwError, match="do not add up"):
            load_directory(source)


def test_bad_input_costs_only_itself(warehouse: Warehouse, source: Path) -> None:
    bad = {
        "E_NOT_JSON": b'{"device_id":"D1","metric_value":NaN}',
        "E_NUL_ESCAPE": rb'{"device_id":"D\u0000"}',
        "E_LONE_SURROGATE": rb'{"device_id":"\ud800"}',
        "E_NOT_UTF8": b'{"device_id":"\xff"}',
        "E_TOO_LARGE": b'{"device_id":"' + b"x" * 20_000_000 + b'"}',
        "E_KEY_CASE": b'{"Device_Id":"D1"}',
    }
    put(source, *(line for record in bad.values() for line in (*numbered(1), record)), *numbered(1))
    load_directory(source)
    assert offsets(warehouse) == [0, 2, 4, 6, 8, 10, 12]
    found = warehouse.rows("select reason, bytes from raw_restricted.rejected_records")
    assert {str(reason): data for reason, data in found} == bad


def test_originals_are_kept_as_bytes(warehouse: Warehouse, source: Path) -> None:
    message = b"MSH|^~\\&|\xff\x00\r" + b"x" * 70_000
    digest = sha256(message).hexdigest()
    good = json.dumps({"sha256": digest, "bytes": base64.b64encode(message).decode()}).encode()
    bad = json.dumps({"sha256": "0" * 64, "bytes": base64.b64encode(message).decode()}).encode()
    put(source, good, bad, b"null", topic="hl7.originals")
    load_directory(source)
    assert warehouse.rows("select _offset, sha256, bytes from raw_restricted.hl7_originals order by 1") == [
        (0, digest, message),
        (2, None, None),
    ]
    assert warehouse.rows("select _offset, reason, bytes from raw_restricted.rejected_records") == [
        (1, "E_ORIGINAL", bad)
    ]


def test_two_directories_are_two_sources(warehouse: Warehouse, source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for folder in (source, other):
        put(folder, *numbered(0))
        load_directory(folder)
    assert len(warehouse.rows("select distinct _topic_id from raw.device_telemetry where _offset = 0")) == 2
    assert len(warehouse.rows("select distinct cluster from raw.load_positions")) == 2


def test_one_directory_under_two_names_is_one_source(
    warehouse: Warehouse, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(source, *numbered(0))
    load_directory(source)
    (source.parent / "link").symlink_to(source)
    monkeypatch.chdir(source.parent)
    assert not load_directory(Path("link")).rows
    assert not load_directory(Path("in/../in")).rows


def test_every_table_is_there_after_the_first_load(warehouse: Warehouse, source: Path) -> None:
    put(source)
    load_directory(source)
    for topic in load_topics(PROJECT).values():
        assert warehouse.rows(f"select count(*) from {topic.qualified}") == [(0,)]
    assert warehouse.rows("select count(*) from raw.load_positions") == [(0,)]


def test_a_topic_may_have_any_name(
    warehouse: Warehouse, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "ward 100%s\\t'é"
    project = source.parent / "project"
    project.mkdir()
    names = load_topics(PROJECT)["device.telemetry"].fields
    told = {"topics": {name: "raw.device_telemetry"}, "field_names": {name: {**names, "device_id": "Device"}}}
    profile = {"profile": "clinical_data_warehouse", "vars": told}
    (project / "dbt_project.yml").write_text(json.dumps(profile), encoding="utf-8")
    monkeypatch.setenv("CDW_PROJECT_DIR", str(project))
    put(source, b'{"Device":"100%s"}', b'{"device":"D1"}', topic=name)
    assert load_directory(source).rejects == {(name, "E_KEY_CASE"): 1}
    assert warehouse.rows("select _topic, payload->>'Device' from raw.device_telemetry") == [(name, "100%s")]


def a_batch(source: Path, first: int, previous: str | None) -> Batch:
    with TopicDirectory(source, load_topics(PROJECT)) as directory:
        partition = directory.files[0].partition
    rows = [Record(first, b'{"sequence":1}')]
    rejects = [Reject("E_NOT_JSON", Record(first + 1, b"x"))]
    return Batch(partition, first, first + 2, rows, rejects, 0, 17, "1" * 64, previous, datetime(2026, 1, 1))


def test_a_position_moves_from_where_it_was_or_not_at_all(warehouse: Warehouse, source: Path) -> None:
    put(source, *numbered(0))
    with open_warehouse(find_target()) as one, open_warehouse(find_target()) as two:
        one.prepare(list(load_topics(PROJECT).values()))
        first, second = a_batch(source, 0, None), a_batch(source, 2, "1" * 64)
        one.load([first])
        for zombie in (one, two):
            with pytest.raises(CdwError, match="another loader moved the position") as caught:
                zombie.load([first])
            assert "device.telemetry, partition 0, offset 0" in caught.value.where
        two.load([second])
        with pytest.raises(CdwError, match="another loader"):
            one.load([second])
    assert offsets(warehouse) == [0, 2]
    assert offsets(warehouse, "raw_restricted.rejected_records") == [1, 3]
    assert warehouse.rows("select next_offset from raw.load_positions") == [(4,)]
    assert len(warehouse.rows("select batch_id from raw.load_batches")) == 2


def test_a_batch_is_loaded_whole_or_not_at_all(
    warehouse: Warehouse, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(source, *LINES)
    load_directory(source)
    put(source, *numbered(6), b"garbage")
    # The last statement of the transaction is the one that fails.
    warehouse.run("alter table raw_restricted.rejected_records rename to hidden")
    with pytest.raises(CdwError, match="refused a statement"), open_warehouse(find_target()) as opened:
        opened.load([a_batch(source, 6, "1" * 64)])
    warehouse.run("alter table raw_restricted.hidden rename to rejected_records")
    assert offsets(warehouse) == [0, 2, 3]
    assert warehouse.rows("select next_offset from raw.load_positions") == [(6,)]
    assert len(warehouse.rows("select * from raw.load_batches")) == 1
    assert load_directory(source).rows == {"device.telemetry": 1}
    assert offsets(warehouse) == [0, 2, 3, 6]


def test_a_table_of_another_layout_is_an_error(warehouse: Warehouse, source: Path) -> None:
    put(source, *numbered(0))
    warehouse.run("create schema raw", "create table raw.device_telemetry (_offset bigint, payload json)")
    with pytest.raises(CdwError, match=r"table raw\.device_telemetry has another layout"):
        load_directory(source)


def test_batch_ids_rise_and_are_never_given_twice(warehouse: Warehouse, source: Path) -> None:
    seen: list[int] = []
    for number in range(3):
        put(source, *numbered(number))
        load_directory(source)
        seen += [row[0] for row in warehouse.rows("select max(batch_id) from raw.load_batches")]
        warehouse.run("delete from raw.load_batches", "delete from raw.load_positions")
        warehouse.run("delete from raw.device_telemetry")
    assert seen == sorted(set(seen))
    assert len(seen) == 3


def test_settings_bound_a_record(warehouse: Warehouse, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDW_MAX_RECORD_BYTES", "1000")
    assert load_settings().max_record_bytes == 1000
    fits = b'{"a":"' + b"x" * 992 + b'"}'
    put(source, fits, fits + b" ")
    assert load_directory(source).rejects == {("device.telemetry", "E_TOO_LARGE"): 1}


def test_the_loader_names_itself(warehouse: Warehouse, source: Path) -> None:
    put(source, *numbered(0))
    load_directory(source)
    [(loader,)] = warehouse.rows("select loader from raw.load_positions")
    assert str(loader).endswith(f":{os.getpid()}")


def test_only_a_load_counts_as_the_last_batch(warehouse: Warehouse, source: Path) -> None:
    put(source, *LINES)
    load_directory(source, loaded_at=ARRIVAL)
    warehouse.run(
        "insert into raw.load_batches (batch_id, cluster, topic, topic_id, partition, row_count, "
        "reject_count, explained_count, loaded_at, kind) select 99, cluster, topic, topic_id, partition, "
        "0, 0, 0, timestamp '2999-01-01', 'purge' from raw.load_positions"
    )
    [partition] = read_status(find_target()).partitions or []
    assert partition.last_batch_at == f"{ARRIVAL:%Y-%m-%dT%H:%M:%S.%fZ}"
