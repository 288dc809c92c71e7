"""What is purged is gone from every table and counted; what is not, stays, byte for byte."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loaders import purge as purging
from loaders.books import Entry, write_entry
from loaders.cli import app
from loaders.directory import TopicDirectory
from loaders.errors import AwayError, CdwError
from loaders.ingest import ingest_to_directory
from loaders.load import load_directory
from loaders.patients import Identifier, parse_identifier
from loaders.profile import find_target
from loaders.purge import Plan, Purged, before, naming, purge
from loaders.topics import load_topics
from loaders.warehouse import open_warehouse
from loaders.warehouse.protocol import Batch, Partition, Record, Reject
from loaders.warehouse.statements import Statements
from tests.conftest import PROJECT, Postgres, Warehouse, use
from tests.warehouse.test_field_names import project_with_names, theirs

PATIENT = Identifier("EHR", "MRN0001")
PATIENTS, ORIGINALS, REJECTS = (
    "raw.healthcare_public_patients",
    "raw_restricted.hl7_originals",
    "raw_restricted.rejected_records",
)


def message(number: int, *segments: str, facility: str = "SOUTHGATE") -> str:
    msh = rf"MSH|^~\&|HIS|{facility}|CDW||20260105100000||ADT^A08|C{number}|P|2.5"
    return "\r".join([msh, *segments, ""])


# Whether a message names the patient, and its segments.
MESSAGES = [
    (True, message(0, "PID|1||MRN0001^^^EHR^MR||ZZBIRCH^TESTA")),
    (False, message(1, "PID|1||MRN0001||ZZELM^TESTO")),  # its authority is the facility
    (True, message(2, "PID|1||MRN0001||ZZBIRCH^TESTA", facility="EHR")),
    (True, message(3, "PID|1|MRN0001^^^EHR|77^^^SOUTHGATE||ZZBIRCH^TESTA")),
    (True, message(4, "PID|1||78^^^EHR||ZZOAK^TESTA", "MRG|79^^^EHR~ MRN0001 ^^^EHR")),
    (False, message(5, "PID|1||MRN00012^^^EHR||ZZELM^TESTO", "NTE|1||as MRN0001^^^EHR had it")),
    (False, message(6, 'PID|1||""^^^EHR||ZZELM^TESTO')),
    (True, message(7, "PID|1||80^^^EHR||ZZELM^TESTO", "PID|2||MRN0001^^^^MR||ZZBIRCH", facility="EHR")),
]
UNREADABLE = "MSH|^~\\&|HIS|SOUTHGATE|CDW||20260105100000|||C9|P|2.5\rPID|1||{}||ZZBIRCH\r{}"
TELEMETRY = [
    b'{"device_id":"D1","patient_id":"MRN0001","metric_value":1}',
    b'{"device_id":"D1","patient_id":"MRN0002","note":"MRN0001"}',
    b'{"device_id":"MRN0001","patient_id":null}',
    rb'{"device_id":"D1","patient_id":"MRN\u0030001"}',
    b'no JSON of "MRN0001"',
    b"no JSON of XMRN00012",
    b"null",
]


def row(number: object, patient: object, **others: object) -> dict[str, object]:
    return {"id": number, "patient_id": patient, **others}


CHANGES: list[dict[str, Any]] = [
    {"op": "c", "before": None, "after": row(1, "MRN0001")},
    {"schema": {}, "payload": {"op": "u", "before": row(1, "MRN0001"), "after": row(1, "MRN0002")}},
    {"op": "c", "before": None, "after": row(2, "MRN0002", given_name="MRN0001")},
    {"op": "d", "before": row(1, "MRN0001"), "after": None},
    {"op": "d", "before": {"id": 2}, "after": None},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "topics"
    folder.mkdir()
    (folder / "device.telemetry.jsonl").write_bytes(b"\n".join([*TELEMETRY, b""]))
    lines = [json.dumps(change) for change in CHANGES]
    (folder / "healthcare.public.patients.jsonl").write_text("\n".join([*lines, ""]))
    feed = tmp_path / "feed.hl7"
    rejects = [UNREADABLE.format("MRN0001", ""), UNREADABLE.format("MRN0002", "")]
    rejects.append(UNREADABLE.format("MRN0001", "NTE|1||" + "x" * 70_000 + "\r"))
    feed.write_text("".join([*(text for _, text in MESSAGES), *rejects]), newline="")
    assert (counts := ingest_to_directory([str(feed)], folder))
    assert (counts.messages, counts.rejects) == (8, 3)
    return folder


@pytest.fixture
def on_postgres(postgres: Postgres, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    use(postgres, profiles_dir, monkeypatch)
    return postgres


def offsets(warehouse: Warehouse, table: str) -> list[object]:
    return [found[0] for found in warehouse.rows(f"select _offset from {table} order by 1")]


def carry_out(plan: Plan, *, dry_run: bool = False) -> Purged:
    return purge(find_target(), PROJECT, plan, dry_run=dry_run)


def entries(warehouse: Warehouse) -> dict[object, tuple[object, object]]:
    found = warehouse.rows(
        "select topic, sum(row_count), sum(reject_count), count(first_offset), count(cluster) - count(*) "
        "from raw.load_batches where kind = 'purge' group by 1"
    )
    assert all(rest == (0, 0) for *_, rest in ((*row[:3], row[3:]) for row in found))
    return {topic: (int(rows), int(rejects)) for topic, rows, rejects, *_ in found}


def unbalanced(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    """Topics whose books do not balance, as the model reconciliation counts."""
    return [
        (topic.name, found)
        for topic in load_topics(PROJECT).values()
        for found in warehouse.rows(
            f"""
            select coalesce((select sum(next_offset - first_offset) from raw.load_positions
                             where topic = '{topic.name}'), 0)
                 - coalesce((select sum(explained_count) from raw.load_batches
                             where topic = '{topic.name}'), 0)
                 + coalesce((select sum(row_count + reject_count) from raw.load_batches
                             where topic = '{topic.name}' and kind = 'purge'), 0)
                 - (select count(*) from {topic.qualified})
                 - (select count(*) from {REJECTS} where _topic = '{topic.name}')
            """
        )
        if found != (0,)
    ]


def test_a_patient_is_gone_from_every_topic(warehouse: Warehouse, source: Path) -> None:
    load_directory(source)
    kept = {
        table: warehouse.rows(f"select * from {table} order by _offset")
        for table in ("raw.device_telemetry", PATIENTS, "raw.hl7_messages")
    }
    purged = carry_out(naming(PATIENT, PROJECT))
    assert purged.rows == {
        "device.telemetry": 2,
        "healthcare.public.patients": 3,
        "hl7.messages": 5,
        "hl7.originals": 6,
        "hl7.rejected": 2,
    }
    assert purged.rejects == {"device.telemetry": 1}
    assert offsets(warehouse, "raw.device_telemetry") == [1, 2, 6]
    assert offsets(warehouse, PATIENTS) == [2, 4]
    assert offsets(warehouse, "raw.hl7_messages") == [
        offset for offset, (is_named, _) in enumerate(MESSAGES) if not is_named
    ]
    originals = warehouse.rows(f"select bytes from {ORIGINALS} order by _offset")
    assert originals == [(text.encode(),) for is_named, text in MESSAGES if not is_named]
    assert offsets(warehouse, "raw.hl7_rejected") == [1]
    assert offsets(warehouse, REJECTS) == [5]
    # What stays, stays as it was.
    for table, rows in kept.items():
        assert all(row in rows for row in warehouse.rows(f"select * from {table}"))

    assert entries(warehouse) == {
        **{topic: (-count, 0) for topic, count in purged.rows.items()},
        "device.telemetry": (-2, -1),
    }
    assert not unbalanced(warehouse)
    # Again there is nothing, and loading goes on where it was.
    assert not carry_out(naming(PATIENT, PROJECT))
    assert not load_directory(source).rows
    with (source / "device.telemetry.jsonl").open("ab") as file:
        file.write(TELEMETRY[0] + b"\n")
    assert load_directory(source).rows == {"device.telemetry": 1}
    assert not unbalanced(warehouse)


def test_an_identifier_is_that_of_its_authority_alone(warehouse: Warehouse, source: Path) -> None:
    load_directory(source)
    purged = carry_out(naming(Identifier("SOUTHGATE", "MRN0001"), PROJECT, keep_rejects=True))
    assert (purged.rows, purged.rejects) == ({"hl7.messages": 1, "hl7.originals": 1}, {})
    assert 1 not in offsets(warehouse, "raw.hl7_messages")


def test_authorities_are_named_as_in_the_marts(warehouse: Warehouse, source: Path, tmp_path: Path) -> None:
    feed = tmp_path / "nhs.hl7"
    texts = [
        message(0, "PID|1||4^^^2.16.840.1.113883.2.1.4.1&x&ISO"),
        message(1, "PID|1||4^^^&2.16.840.1.113883.2.1.4.1&ISO"),
        message(2, "PID|1||4^^^2.16.840.1.113883.4.1"),
    ]
    feed.write_text("".join(texts), newline="")
    ingest_to_directory([str(feed)], source)
    load_directory(source)
    purged = carry_out(naming(Identifier("NHS", "4"), PROJECT))
    assert purged.rows["hl7.messages"] == 2
    assert len(MESSAGES) + 2 in offsets(warehouse, "raw.hl7_messages")


def test_fields_of_another_name_are_found(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_with_names(tmp_path / "project")
    monkeypatch.setenv("CDW_PROJECT_DIR", str(project))
    name = theirs("patient_id")
    source = tmp_path / "topics"
    source.mkdir()
    reading = [json.dumps({name: patient}) for patient in ("MRN0001", "MRN0002")]
    (source / "device.telemetry.jsonl").write_text("\n".join([*reading, ""]))
    change = [json.dumps({"payload": {"after": {name: patient}}}) for patient in ("MRN0002", "MRN0001")]
    (source / "healthcare.public.devices.jsonl").write_text("\n".join([*change, ""]))
    load_directory(source)
    purge(find_target(), project, naming(PATIENT, project))
    assert offsets(warehouse, "raw.device_telemetry") == [1]
    assert offsets(warehouse, "raw.healthcare_public_devices") == [0]


def partition_of(source: Path, topic: str) -> Partition:
    with TopicDirectory(source, load_topics(PROJECT)) as directory:
        return directory.partition(load_topics(PROJECT)[topic])


def load_records(partition: Partition, records: list[Record], loaded_at: datetime) -> None:
    with open_warehouse(find_target()) as opened:
        opened.prepare(list(load_topics(PROJECT).values()))
        opened.load(
            [Batch(partition, 0, len(records), records, [], 0, 1, "1" * 64, None, loaded_at)],
        )


def test_a_tombstone_goes_by_its_key(warehouse: Warehouse, source: Path) -> None:
    keys = [
        '{"patient_id":"MRN0001"}',
        '{"schema":{},"payload":{"patient_id":"MRN0001"}}',
        "MRN0001",
        '{"patient_id":"MRN00012"}',
        '{"id":"MRN0001"}',
        "{MRN0001",
        None,
    ]
    records = [Record(offset, None, key=key) for offset, key in enumerate(keys)]
    load_records(partition_of(source, "healthcare.public.patients"), records, datetime(2026, 1, 1))
    assert carry_out(naming(PATIENT, PROJECT)).rows == {"healthcare.public.patients": 3}
    assert offsets(warehouse, PATIENTS) == [3, 4, 5, 6]


def test_messages_of_another_shape_are_searched_as_text(warehouse: Warehouse, source: Path) -> None:
    values = [b'{"text":"MRN0001"}', b'{"meta":7,"segments":[]}', b'{"meta":{},"segments":["MRN0001"]}']
    records = [Record(offset, value) for offset, value in enumerate(values)]
    load_records(partition_of(source, "hl7.messages"), records, datetime(2026, 1, 1))
    assert carry_out(naming(PATIENT, PROJECT)).rows == {"hl7.messages": 2}
    assert offsets(warehouse, "raw.hl7_messages") == [1]


def test_originals_that_no_message_stands_for_are_searched(warehouse: Warehouse, source: Path) -> None:
    load_directory(source)
    carry_out(before(datetime(2999, 1, 1, tzinfo=UTC), PROJECT, ["hl7.messages"]))
    # Whose an id is, is not known of bytes: who must not lose another's keeps them all.
    kept = carry_out(naming(PATIENT, PROJECT, keep_rejects=True)).rows
    assert "hl7.originals" not in kept
    assert carry_out(naming(PATIENT, PROJECT)).rows["hl7.originals"] == len(MESSAGES)
    assert warehouse.rows(f"select bytes from {ORIGINALS}") == [(MESSAGES[6][1].encode(),)]
    assert not unbalanced(warehouse)


def test_originals_of_messages_that_the_gate_refused_go_too(warehouse: Warehouse, source: Path) -> None:
    file = source / "hl7.messages.jsonl"
    file.write_bytes(file.read_bytes().replace(b"}\n", b',"x":1,"x":1}\n'))
    rejects = load_directory(source).rejects
    assert rejects["hl7.messages", "E_REPEATED_KEY"] == len(MESSAGES)
    purged = carry_out(naming(PATIENT, PROJECT))
    assert purged.rows["hl7.originals"] == len(MESSAGES)
    assert purged.rejects["hl7.messages"] == len(MESSAGES) - 1
    assert warehouse.rows(f"select bytes from {ORIGINALS}") == [(MESSAGES[6][1].encode(),)]
    assert not unbalanced(warehouse)


def test_rejects_are_searched_with_all_that_came_with_them(warehouse: Warehouse, source: Path) -> None:
    records = [
        Record(0, b"no JSON", key_bytes=b"\xff\0MRN0001"),
        Record(1, None, key_bytes=b"\xffMRN00012"),
        Record(2, b"no JSON", headers='[{"key":"a","value":null},{"key":"a","value":"of\\nMRN0001"}]'),
        Record(3, b"no JSON", headers='[{"key":"a","base64":"/01STjAwMDE="}]'),
        Record(4, b"no JSON", headers='[{"key":"MRN0001","value":""}]'),
        Record(5, b"no JSON", headers='[{"key":"a","value":"MRN00012"}]'),
        Record(6, b"no JSON", key="of MRN0001"),
    ]
    rejects = [Reject("E_NOT_JSON", record) for record in records]
    partition = partition_of(source, "device.telemetry")
    with open_warehouse(find_target()) as opened:
        opened.prepare(list(load_topics(PROJECT).values()))
        opened.load([Batch(partition, 0, 7, [], rejects, 0, 1, "1" * 64, None, datetime(2026, 1, 1))])
    carry_out(naming(PATIENT, PROJECT))
    assert offsets(warehouse, REJECTS) == [1, 5]


def test_what_arrived_before_goes(warehouse: Warehouse, source: Path) -> None:
    load_directory(source, loaded_at=datetime(2026, 1, 1, tzinfo=UTC))
    with (source / "device.telemetry.jsonl").open("ab") as file:
        file.write(TELEMETRY[0] + b"\nno JSON\n")
    load_directory(source, loaded_at=datetime(2026, 2, 1, tzinfo=UTC))
    time = datetime.fromisoformat("2026-02-01T01:00:00+01:00")
    assert carry_out(before(time, PROJECT, ["device.telemetry"])).rows == {"device.telemetry": 5}
    assert offsets(warehouse, "raw.device_telemetry") == [7]
    assert offsets(warehouse, REJECTS) == [8]
    assert len(offsets(warehouse, "raw.hl7_messages")) == len(MESSAGES)
    assert not unbalanced(warehouse)

    assert carry_out(before(time, PROJECT)).rows["hl7.originals"] == len(MESSAGES) + 1
    assert offsets(warehouse, "raw.device_telemetry") == [7]
    assert not offsets(warehouse, "raw.hl7_messages")
    assert not unbalanced(warehouse)


def test_arrival_is_kafkas_where_kafka_set_it(warehouse: Warehouse, source: Path) -> None:
    old, new = datetime(2025, 1, 1), datetime(2026, 1, 1)
    records = [
        Record(0, b"{}", old, "LogAppendTime"),
        Record(1, b"{}", old, "CreateTime"),
        Record(2, b"{}"),
    ]
    load_records(partition_of(source, "device.telemetry"), records, new)
    carry_out(before(datetime(2025, 6, 1, tzinfo=UTC), PROJECT))
    assert offsets(warehouse, "raw.device_telemetry") == [1, 2]


def test_topics_that_are_not_there(warehouse: Warehouse) -> None:
    with pytest.raises(CdwError, match="no such topic: ward"):
        before(datetime.now(UTC), PROJECT, ["ward"])


def test_a_dry_run_counts_the_same_and_takes_nothing(warehouse: Warehouse, source: Path) -> None:
    load_directory(source)
    everything = [
        warehouse.rows(f"select * from {topic.qualified}") for topic in load_topics(PROJECT).values()
    ]
    counted = carry_out(naming(PATIENT, PROJECT), dry_run=True)
    assert everything == [
        warehouse.rows(f"select * from {topic.qualified}") for topic in load_topics(PROJECT).values()
    ]
    assert not entries(warehouse)
    assert carry_out(naming(PATIENT, PROJECT)) == counted


def test_all_of_it_or_nothing(warehouse: Warehouse, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_directory(source)
    tables = [*(topic.qualified for topic in load_topics(PROJECT).values()), REJECTS]
    there = [offsets(warehouse, table) for table in tables]
    written = []

    def fail(statements: Statements, entry: Entry) -> int:
        if entry.rejects:
            raise KeyboardInterrupt
        written.append(entry)
        return write_entry(statements, entry)

    monkeypatch.setattr(purging, "write_entry", fail)
    with pytest.raises(KeyboardInterrupt):
        carry_out(naming(PATIENT, PROJECT))
    assert written
    assert [offsets(warehouse, table) for table in tables] == there
    assert not entries(warehouse)


def test_what_is_loaded_meanwhile_stays(on_postgres: Postgres, source: Path) -> None:
    """Counted is what is deleted, though a loader commits in between (DuckDB lets nobody in)."""
    load_directory(source)
    plan = before(datetime(2999, 1, 1, tzinfo=UTC), PROJECT, ["device.telemetry"])

    def with_a_loader(statements: Statements) -> Any:
        parts = plan(statements)
        with (source / "device.telemetry.jsonl").open("ab") as file:
            file.write(TELEMETRY[0] + b"\n")
        load_directory(source)
        return parts

    assert carry_out(with_a_loader).rows == {"device.telemetry": 5}
    assert offsets(on_postgres, "raw.device_telemetry") == [7]
    assert not unbalanced(on_postgres)


@pytest.mark.usefixtures("on_postgres")
def test_one_at_a_time_on_postgres(source: Path) -> None:
    load_directory(source)
    with open_warehouse(find_target()) as opened, opened.maintenance() as statements:
        ((process,),) = statements.execute("select pg_backend_pid()")
        with pytest.raises(AwayError, match=rf"under way \(server process {process}\); nothing was done"):
            carry_out(naming(PATIENT, PROJECT))
    assert carry_out(naming(PATIENT, PROJECT))


def test_the_command_counts_asks_and_says_no_name(warehouse: Warehouse, source: Path) -> None:
    load_directory(source)
    named = ["purge", "--patient", "EHR/MRN0001"]
    run = CliRunner().invoke
    for words, answer, code in (
        ([*named, "--dry-run"], None, 0),
        (named, "n\n", 1),
        (named, "", 1),
    ):
        done = run(app, words, input=answer)
        assert done.exit_code == code
        assert "hl7.messages: 5 rows" in done.output
        assert "MRN" not in done.output
        assert not entries(warehouse)
    done = run(app, ["purge", "--patient", "-", "--yes"], input="EHR/MRN0001\n")
    assert done.exit_code == 0
    assert "purged:\ndevice.telemetry: 2 rows" in done.output
    assert "MRN" not in done.output
    assert run(app, [*named, "--yes"]).output == "nothing to purge\n"


@pytest.mark.parametrize(
    "words",
    [
        ["purge"],
        ["purge", "--before", "2026-01-01", "--patient", "EHR/1"],
        ["purge", "--patient", "MRN0001"],
        ["purge", "--patient", "/MRN0001"],
        ["purge", "--patient", "EHR/MRN0001", "--topic", "device.telemetry"],
        ["purge", "--before", "2026-01-01", "--keep-rejects"],
    ],
)
def test_the_command_wrongly_used(words: list[str], warehouse: Warehouse) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "MRN0001" not in done.output


def test_an_id_may_hold_a_slash() -> None:
    assert parse_identifier(" EHR/12/3\n") == ("EHR", "12/3")
