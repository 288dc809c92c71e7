"""A warehouse that an older cdw wrote is brought up to date in place, and goes on as if nothing had been."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loaders.directory import TopicDirectory
from loaders.errors import AwayError, CdwError
from loaders.load import load_directory
from loaders.migrate import migrate
from loaders.profile import find_target
from loaders.topics import load_topics
from loaders.warehouse import layout, open_warehouse, postgres
from tests.conftest import PROJECT, Postgres, Warehouse
from tests.warehouse.hospital import Runner

FIXTURE = PROJECT / "tests/fixtures/layout_1"
EVERYTHING = {
    "raw.device_telemetry": "select _offset, payload::text, _batch_id from raw.device_telemetry order by 1",
    "raw_restricted.rejected_records": "select _topic, _offset, reason, bytes, _batch_id "
    "from raw_restricted.rejected_records order by 1, 2",
    "raw_restricted.hl7_originals": "select _offset, sha256, bytes, _batch_id "
    "from raw_restricted.hl7_originals order by 1",
    "raw.load_batches": "select batch_id, topic, first_offset, next_offset, row_count, reject_count, sha256, "
    "previous_sha256 from raw.load_batches order by 1",
}


@pytest.fixture
def topics(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE / "topics", tmp_path / "topics"))


@pytest.fixture
def old(warehouse: Warehouse, topics: Path) -> Warehouse:
    """A warehouse as layout 1 left it, loaded from these topics."""
    with TopicDirectory(topics, load_topics(PROJECT)) as directory:
        ids = {topic.name: directory.partition(topic).topic_id for topic in load_topics(PROJECT).values()}
        text = (FIXTURE / "layout.sql").read_text(encoding="utf-8").replace("@cluster@", directory.cluster)
    text = re.sub("@topic_id:([^@]+)@", lambda match: ids[match[1]], text)
    literal = r"decode('\1', 'hex')" if isinstance(warehouse, Postgres) else r"unhex('\1')"
    text = re.sub("@hex:([0-9a-f]*)@", literal, text)
    warehouse.run(*text.split(";\n")[:-1])
    return warehouse


def versions(warehouse: Warehouse) -> list[object]:
    return [row[0] for row in warehouse.rows("select version from raw.layout order by 1")]


def test_a_loader_stops_and_names_the_command(old: Warehouse, topics: Path) -> None:
    with pytest.raises(CdwError, match="have layout 1") as caught:
        load_directory(topics)
    assert "cdw migrate" in caught.value.do


def test_nothing_is_lost_and_loading_goes_on(old: Warehouse, topics: Path) -> None:
    before = {table: old.rows(query) for table, query in EVERYTHING.items()}
    assert all(before.values())
    assert migrate(find_target()) == (1, layout.VERSION)
    assert {table: old.rows(query) for table, query in EVERYTHING.items()} == before
    assert old.rows("select distinct kind from raw.load_batches") == [("load",)]
    assert old.rows("select count(*), count(sha256) from raw.load_positions") == [(6, 6)]

    # All that a file held is compared with the chained hashes, and what is new is chained to them.
    assert not load_directory(topics).rows
    with (topics / "device.telemetry.jsonl").open("ab") as file:
        file.write(b'{"device_id":"DEV-1"}\n[]\n')
    loaded = load_directory(topics)
    assert loaded.rows == {"device.telemetry": 1}
    assert loaded.rejects == {("device.telemetry", "E_NOT_OBJECT"): 1}


def test_it_is_the_layout_of_a_new_warehouse(
    old: Warehouse, topics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(find_target())
    with open_warehouse(find_target()) as opened:
        opened.prepare(list(load_topics(PROJECT).values()))
        warehouse_id = opened.warehouse_id
    assert re.fullmatch("[0-9a-f]{32}", warehouse_id)
    assert versions(old) == [layout.VERSION]


def test_again_it_does_nothing(old: Warehouse) -> None:
    migrate(find_target())
    said = old.rows("select * from raw.layout")
    assert migrate(find_target()) == (layout.VERSION, layout.VERSION)
    assert old.rows("select * from raw.layout") == said


def test_a_step_is_done_whole_or_not_at_all(old: Warehouse) -> None:
    # The last statement of the step is the one that fails.
    old.run("alter table raw.load_positions rename column next_offset to hidden")
    with pytest.raises(CdwError, match="refused a statement"):
        migrate(find_target())
    old.run("alter table raw.load_positions rename column hidden to next_offset")
    columns = old.rows("select column_name from information_schema.columns where table_schema = 'raw'")
    assert ("kind",) not in columns
    assert migrate(find_target()) == (1, layout.VERSION)


def test_a_newer_layout_is_left_alone(old: Warehouse, topics: Path) -> None:
    migrate(find_target())
    old.run(f"update raw.layout set version = {layout.VERSION + 1}")
    for command in (lambda: migrate(find_target()), lambda: load_directory(topics)):
        with pytest.raises(CdwError, match=f"have layout {layout.VERSION + 1}") as caught:
            command()
        assert "newer version of cdw" in caught.value.do


def test_without_raw_tables_nothing_is_made(warehouse: Warehouse, duckdb_path: Path) -> None:
    with pytest.raises(CdwError, match=r"no raw tables|no DuckDB file"):
        migrate(find_target())
    assert not duckdb_path.exists()


def test_one_at_a_time(old: Warehouse) -> None:
    hold = (
        "import sys; from loaders.profile import find_target; from loaders.warehouse import open_warehouse\n"
        "with open_warehouse(find_target()) as w, w.maintenance() as s:\n"
        "    pid = s.execute('select pg_backend_pid()') if sys.argv[1] == 'postgres' else [(0,)]\n"
        "    print(pid[0][0], flush=True)\n"
        "    input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, old.target], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        server_process = int(holder.stdout.readline())
        with pytest.raises(AwayError, match=rf"\b{server_process or holder.pid}\b"):
            migrate(find_target())
        holder.communicate(b"\n")
    assert migrate(find_target()) == (1, layout.VERSION)


@pytest.mark.parametrize("warehouse", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    "statements",
    [
        ["select count(*) from raw.load_positions"],
        [
            "update raw.load_positions set next_offset = next_offset + 1 where topic = 'device.telemetry'",
            "insert into raw.load_batches (topic, row_count, reject_count) values ('device.telemetry', 1, 0)",
            "insert into raw.device_telemetry select * from raw.device_telemetry where _offset = 0",
        ],
    ],
    ids=["a dbt build", "a loader of the older version"],
)
def test_who_is_at_work_there_is_named_and_not_disturbed(
    old: Postgres, topics: Path, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        postgres, "_OPTIONS", postgres._OPTIONS.replace("lock_timeout=5s", "lock_timeout=100ms")
    )
    before = {table: len(old.rows(query)) for table, query in EVERYTHING.items()}
    with old.connect() as other:
        other.execute("set application_name = 'ward report'")
        with other.transaction():
            for statement in statements:
                other.execute(statement)
            at_work = rf"locked by PID {other.info.backend_pid} \(ward report\); this step was not done"
            with pytest.raises(AwayError, match=at_work):
                migrate(find_target())
    assert migrate(find_target()) == (1, layout.VERSION)
    new = len(statements) > 1
    added = {"raw.device_telemetry": new, "raw.load_batches": new}
    assert {table: len(old.rows(query)) - before[table] for table, query in EVERYTHING.items()} == {
        table: added.get(table, 0) for table in EVERYTHING
    }
    # One that has nothing to do is in nobody's way, and nobody is in its.
    with old.connect() as other, other.transaction():
        for statement in statements:
            other.execute(statement)
        assert migrate(find_target()) == (layout.VERSION, layout.VERSION)


@pytest.mark.parametrize("warehouse", ["duckdb"], indirect=True)
def test_the_marts_are_built_from_it_and_the_books_balance(
    old: Warehouse, topics: Path, tmp_path: Path, profiles_dir: Path
) -> None:
    runner = Runner(tmp_path, profiles_dir, {**old.env, "CDW_TARGET": old.target})
    assert "layout 2 now; before, 1" in runner.check("cdw", "migrate")
    with (topics / "device.telemetry.jsonl").open("ab") as file:
        file.write(b'{"device_id":"DEV-1"}\n')
    runner.load(topics)
    runner.dbt("build", "--exclude-resource-type", "unit_test", "--exclude-resource-type", "test")
    assert old.rows(
        "select topic, records_received, records_loaded, records_rejected, is_balanced "
        "from operations.reconciliation where records_rejected > 0"
    ) == [("device.telemetry", 8, 6, 2, True)]
    assert old.rows("select is_balanced, count(*) from operations.reconciliation group by 1") == [(True, 6)]
