"""What cannot be loaded: what, where, what to do; exit code 1; nothing half done; no value from a record."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from loaders.cli import main
from tests.conftest import PROJECT, DuckDB, Postgres, Warehouse, use

SECRET = "Zzyzx-4711"
LINE = b'{"device_id":"%b"}\n' % SECRET.encode()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "device.telemetry.jsonl").write_bytes(LINE)
    return folder


class Cdw:
    """Runs cdw in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, *words: object) -> tuple[int, str]:
        """Exit code and all it said."""
        self._monkeypatch.setattr(sys, "argv", ["cdw", *map(str, words)])
        mask = os.umask(0o022)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            os.umask(mask)
        said = self._capsys.readouterr()
        text = said.out + said.err
        assert SECRET not in text
        assert "Traceback" not in text
        return int(ended.value.code or 0), text

    def refuses(self, what: str, *words: object) -> str:
        code, text = self.run(*words)
        assert code == 1, text
        assert what in text
        assert "\n  where: " in text
        assert "\n  to do: " in text
        return text


@pytest.fixture
def cdw(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cdw:
    return Cdw(monkeypatch, capsys)


@pytest.fixture
def on_duckdb(duckdb_path: Path, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    warehouse = DuckDB(duckdb_path)
    use(warehouse, profiles_dir, monkeypatch)
    return warehouse


@pytest.fixture
def on_postgres(postgres: Postgres, profiles_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    use(postgres, profiles_dir, monkeypatch)
    return postgres


# The directory


def test_directories_that_cannot_be_loaded(on_duckdb: DuckDB, cdw: Cdw, source: Path, tmp_path: Path) -> None:
    empty, other, folder = tmp_path / "empty", tmp_path / "other", tmp_path / "folder"
    for path in (empty, other, folder / "device.telemetry.jsonl"):
        path.mkdir(parents=True)
    (other / "notes.txt").write_text(SECRET)
    cases = {
        tmp_path / "none": "no such directory",
        source / "device.telemetry.jsonl": "this is a file, not a directory",
        empty: "the directory is empty",
        other: "the directory has no topic file",
        folder: "device.telemetry.jsonl cannot be read",
    }
    for path, what in cases.items():
        assert str(path) in cdw.refuses(what, "load", "--from", path)
    assert not on_duckdb.path.exists()


def test_an_unknown_topic_stops_all_topics(on_duckdb: DuckDB, cdw: Cdw, source: Path) -> None:
    (source / "device.telemetri.jsonl").write_bytes(LINE)
    text = cdw.refuses("unknown topic file: device.telemetri.jsonl", "load", "--from", source)
    assert "known topics: hl7.messages, " in text
    assert not on_duckdb.path.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(on_duckdb: DuckDB, cdw: Cdw, source: Path) -> None:
    (source / "device.telemetry.jsonl").chmod(0)
    cdw.refuses("device.telemetry.jsonl cannot be read (PermissionError)", "load", "--from", source)


# Settings, profile and target


def test_profiles_that_cannot_be_used(
    on_duckdb: DuckDB, cdw: Cdw, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ("load", "--from", source, "--target", "it")
    monkeypatch.setenv("DBT_PROFILES_DIR", str(tmp_path))
    assert str(tmp_path / "profiles.yml") in cdw.refuses("no profiles.yml found", *load)

    def profile(target: str) -> None:
        outputs = f"clinical_data_warehouse: {{target: it, outputs: {{it: {target}}}}}"
        (tmp_path / "profiles.yml").write_text(outputs)

    for text in ("a: [", "[]", "other: {}", "clinical_data_warehouse: {outputs: 7}", "\x00"):
        (tmp_path / "profiles.yml").write_text(text)
        cdw.refuses("profiles.yml cannot be read", *load)
    profile("{type: duckdb, path: \"{{ env_var('NOT_SET_HERE') }}\"}")
    cdw.refuses("environment variable NOT_SET_HERE is not set and has no default", *load)
    profile('{type: duckdb, path: "{{ nothing }}"}')
    cdw.refuses("a setting cannot be rendered", *load)
    profile('{type: duckdb, path: "{{ "}')
    cdw.refuses("a setting cannot be rendered", *load)
    profile('{type: duckdb, path: ":memory:"}')
    cdw.refuses("cdw needs a DuckDB file", *load)
    profile(f'{{type: postgres, host: h, port: "{SECRET}", user: u}}')
    cdw.refuses("settings that are missing or cannot be used: dbname, port", *load)
    profile("{type: oracle}")
    cdw.refuses("cdw does not write to a warehouse of type oracle yet", *load)
    profile("7")
    cdw.refuses("cdw does not write to a warehouse of type None yet", *load)


def test_targets_that_cannot_be_used(on_duckdb: DuckDB, cdw: Cdw, source: Path) -> None:
    text = cdw.refuses("there is no target nowhere", "load", "--from", source, "--target", "nowhere")
    assert "choose one of: duckdb, postgres, redshift" in text
    cdw.refuses(
        "does not write to a warehouse of type redshift", "load", "--from", source, "--target", "redshift"
    )


def test_settings_that_cannot_be_used(
    on_duckdb: DuckDB, cdw: Cdw, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDW_BATCH_RECORDS", SECRET)
    monkeypatch.setenv("CDW_MAX_RECORD_BYTES", "0")
    text = cdw.refuses("a setting has a value that cannot be used", "load", "--from", source)
    assert "CDW_BATCH_RECORDS, CDW_MAX_RECORD_BYTES" in text
    monkeypatch.undo()
    monkeypatch.setenv("CDW_PROJECT_DIR", str(tmp_path))
    assert str(tmp_path) in cdw.refuses("no dbt_project.yml found", "load", "--from", source)


NAMES = """
vars:
  topics: {t: raw.device_telemetry}
  field_names:
    t: {device_id: a, patient_id: b, ts: c, metric_name: d, metric_value: e, unit: "theirs",
        software_version: f, sequence: sequence}
"""


@pytest.mark.parametrize(
    "case",
    [
        ("[", "dbt_project.yml cannot be read"),
        ("a: 1", "dbt_project.yml has no map named vars"),
        ("vars: {topics: {t: raw.t}}", "dbt_project.yml has no map named field_names"),
        ("vars: {topics: {t: core.t}, field_names: {}}", "topic t has a table that is not in raw"),
        (
            "vars: {topics: {t: 'raw.t; drop'}, field_names: {}}",
            "topic t has a table that is not in raw",
        ),
        (
            "vars: {topics: {t: raw.healthcare_public_patients}, field_names: {t: {id: id}}}",
            "field names of topic t cannot be used: it must name these and no others: birth_date,",
        ),
        (
            "vars: {topics: {t: raw.hl7_messages}, field_names: {t: {id: id}}}",
            "field names of topic t cannot be used: it must name these and no others: none",
        ),
        (NAMES.replace("theirs", "it's"), "JSON path of every warehouse can hold the names given to: unit"),
        (NAMES.replace("theirs", "Sequence"), "names that differ in case only cannot be told apart"),
    ],
)
@pytest.mark.usefixtures("on_duckdb")
def test_projects_that_cannot_be_used(
    cdw: Cdw, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str]
) -> None:
    project, what = case
    (tmp_path / "dbt_project.yml").write_text(project)
    monkeypatch.setenv("CDW_PROJECT_DIR", str(tmp_path))
    assert str(tmp_path) in cdw.refuses(what, "load", "--from", source)


def test_wrong_usage_exits_2(on_duckdb: DuckDB, cdw: Cdw, source: Path) -> None:
    for words in (
        ["load", "--from"],
        ["load", "--from", source, "--loaded-at", "yesterday"],
        ["load", "--to", source],
        ["status", "now"],
        ["nothing"],
    ):
        assert cdw.run(*words)[0] == 2


# DuckDB


def test_duckdb_files_that_cannot_be_used(
    on_duckdb: DuckDB, cdw: Cdw, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, empty = tmp_path / "text.duckdb", tmp_path / "empty.duckdb"
    text.write_text(SECRET * 5_000)
    empty.write_bytes(b"")
    cases = {
        tmp_path / "none" / "w.duckdb": "the folder of the DuckDB file does not exist",
        tmp_path: "the DuckDB file cannot be opened",
        text: "this file is not a DuckDB database",
        empty: "this file is not a DuckDB database",
        Path("/proc/w.duckdb"): "the DuckDB file cannot be opened",
    }
    for path, what in cases.items():
        monkeypatch.setenv("CDW_DUCKDB_PATH", str(path))
        assert str(path.parent) in cdw.refuses(what, "load", "--from", source)
    assert text.read_text() == SECRET * 5_000


def test_a_locked_duckdb_file_names_its_holder(on_duckdb: DuckDB, cdw: Cdw, source: Path) -> None:
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(on_duckdb.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        for words in (["load", "--from", source], ["status"]):
            cdw.refuses(f"the DuckDB file is locked by another process (PID {holder.pid})", *words)
        holder.kill()
    assert cdw.run("load", "--from", source)[0] == 0


def test_a_duckdb_file_without_room(on_duckdb: DuckDB, cdw: Cdw, source: Path) -> None:
    lines = [
        b'{"device_id":"%b","x":"%b"}\n' % (SECRET.encode(), os.urandom(500).hex().encode())
        for _ in range(20_000)
    ]
    (source / "device.telemetry.jsonl").write_bytes(b"".join(lines))
    done = subprocess.run(
        [sys.executable, "-c", "from loaders.cli import main; main()", "load", "--from", str(source)],
        cwd=PROJECT,
        env={**os.environ, "CDW_BATCH_RECORDS": "1000"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, 8_000_000)),
    )
    assert done.returncode == 1
    assert "DuckDB could not read or write its file" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert cdw.run("load", "--from", source)[0] == 0
    assert on_duckdb.rows("select count(*), count(distinct _offset) from raw.device_telemetry") == [
        (20_000, 20_000)
    ]


# Postgres


def test_a_postgres_that_cannot_be_reached(
    on_postgres: Postgres, cdw: Cdw, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value, what in (
        ("PGHOST", str(tmp_path), "Postgres cannot be reached"),
        ("PGHOST", "127.0.0.1", "Postgres cannot be reached"),
        ("PGUSER", "nobody_we_know", "Postgres refuses this user or password"),
        ("PGDATABASE", "nowhere", "this Postgres has no such database"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv("PGPORT", "1") if value == "127.0.0.1" else None
            patch.setenv(name, value)
            for words in (["load", "--from", source], ["status"]):
                assert "user " in cdw.refuses(what, *words)


def test_a_wrong_password(
    on_postgres: Postgres, cdw: Cdw, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = on_postgres.dbname.replace("test", "role")
    on_postgres.run(f"create role {role} login superuser password 'right'")
    [(file,)] = on_postgres.rows("show hba_file")
    access = Path(str(file))
    access.write_text(f"local all {role} scram-sha-256\n" + access.read_text())
    on_postgres.run("select pg_reload_conf()")
    monkeypatch.setenv("PGUSER", role)
    for password in (SECRET, ""):
        monkeypatch.setenv("PGPASSWORD", password)
        cdw.refuses("Postgres refuses this user or password", "load", "--from", source)
    monkeypatch.setenv("PGPASSWORD", "right")
    assert cdw.run("load", "--from", source)[0] == 0


def test_a_database_that_is_read_only(on_postgres: Postgres, cdw: Cdw, source: Path) -> None:
    on_postgres.run(f"alter database {on_postgres.dbname} set default_transaction_read_only = on")
    cdw.refuses("this Postgres is read-only; what was not loaded yet is not", "load", "--from", source)


def test_a_database_of_another_encoding(
    on_postgres: Postgres, cdw: Cdw, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = on_postgres.dbname + "_latin"
    on_postgres.run(f"create database {name} encoding 'LATIN1' locale 'C' template template0")
    monkeypatch.setenv("PGDATABASE", name)
    cdw.refuses("the database's encoding is not UTF8", "load", "--from", source)
    on_postgres.run(f"drop database {name}")


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ("53100", "the Postgres server's disk is full"),
        ("53200", "the Postgres server is out of resources"),
        ("57P01", "the Postgres server ended the connection"),
        ("XX001", "Postgres refused a statement (SQLSTATE XX001)"),
        ("22P02", "Postgres refused a statement (SQLSTATE 22P02)"),
    ],
)
def test_what_postgres_says_is_not_repeated(
    on_postgres: Postgres, cdw: Cdw, source: Path, state: str, what: str
) -> None:
    assert cdw.run("load", "--from", source)[0] == 0
    on_postgres.run(
        "create function refuse() returns trigger language plpgsql as $$ begin "
        f"raise exception using errcode = '{state}', message = new.payload::text; end $$",
        "create trigger refuse before insert on raw.device_telemetry for each row execute function refuse()",
    )
    with (source / "device.telemetry.jsonl").open("ab") as file:
        file.write(LINE)
    cdw.refuses(f"{what}; what was not loaded yet is not", "load", "--from", source)
    assert on_postgres.rows("select next_offset from raw.load_positions") == [(1,)]
    on_postgres.run("drop trigger refuse on raw.device_telemetry")
    assert cdw.run("load", "--from", source)[0] == 0
    assert on_postgres.rows("select _offset from raw.device_telemetry order by 1") == [(0,), (1,)]


# What is no refusal


def test_rejects_are_told_and_no_failure(warehouse: Warehouse, cdw: Cdw, source: Path) -> None:
    with (source / "device.telemetry.jsonl").open("ab") as file:
        file.write(SECRET.encode() + b"\n" + b"[]\n[]\n")
    code, text = cdw.run("load", "--from", source, "--loaded-at", "2026-01-02T04:04:05+01:00")
    assert code == 0
    assert "device.telemetry: 100 %, next offset 4" in text
    assert "device.telemetry: 1 rows" in text
    assert "device.telemetry: 1 rejected, E_NOT_JSON" in text
    assert "device.telemetry: 2 rejected, E_NOT_OBJECT" in text
    assert cdw.run("load", "--from", source) == (0, "nothing new\n")
    code, text = cdw.run("status")
    assert code == 0
    assert (
        "device.telemetry, partition 0: next offset 4, 1 rows, 1 rejected (E_NOT_JSON), "
        "2 rejected (E_NOT_OBJECT), last batch 2026-01-02T03:04:05Z" in text
    )
    code, text = cdw.run("status", "--json")
    [partition] = json.loads(text)["partitions"]
    assert partition.pop("cluster").startswith("dir:")
    assert len(partition.pop("topic_id")) == 36
    assert partition == {
        "topic": "device.telemetry",
        "partition": 0,
        "next_offset": 4,
        **dict.fromkeys(
            ("state", "begin", "end", "lag", "withheld", "oldest_unloaded_at", "oldest_unloaded_age_seconds")
        ),
        "rows": 1,
        "rejects": {"E_NOT_JSON": 1, "E_NOT_OBJECT": 2},
        "last_batch_at": "2026-01-02T03:04:05Z",
    }


def test_status_of_a_warehouse_without_raw(warehouse: Warehouse, cdw: Cdw) -> None:
    if isinstance(warehouse, DuckDB):
        cdw.refuses("there is no DuckDB file", "status")
        assert not warehouse.path.exists()
        duckdb.connect(str(warehouse.path)).close()
    code, text = cdw.run("status")
    assert code == 0
    assert "no raw tables" in text
    assert json.loads(cdw.run("status", "--json")[1])["partitions"] is None


def test_status_before_the_first_record(warehouse: Warehouse, cdw: Cdw, source: Path) -> None:
    (source / "device.telemetry.jsonl").write_bytes(b"")
    assert cdw.run("load", "--from", source) == (0, "nothing new\n")
    assert "nothing has been loaded yet" in cdw.run("status")[1]


def test_files_are_their_owners_alone(on_duckdb: DuckDB, cdw: Cdw, source: Path) -> None:
    cdw.run("load", "--from", source)
    assert on_duckdb.path.stat().st_mode & 0o077 == 0
