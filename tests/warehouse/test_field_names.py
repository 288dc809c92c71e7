"""A hospital whose senders spell every field otherwise reads the same, and refuses the same."""

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import DuckDB, Postgres, Warehouse
from tests.warehouse.conftest import Built
from tests.warehouse.hospital import PROJECT, Runner, copy_of_the_project

STAGING = ("stg_devices__telemetry", "stg_ehr__patients", "stg_ehr__devices", "stg_ehr__prescriptions")
REJECTS = "select _topic, _offset, reason from raw_restricted.rejected_records order by 1, 2"
NAMES: dict[str, dict[str, str]] = yaml.safe_load((PROJECT / "dbt_project.yml").read_text("utf-8"))["vars"][
    "field_names"
]


def theirs(ours: str) -> str:
    """A name with all that a name may have: capitals, a blank, a dot and a hyphen."""
    return f"Sender.{ours.replace('_', ' ')}-1"


def respell(line: str, fields: list[str]) -> str:
    """Rename keys in the text, for not all lines are JSON; a key in another case stays in another case."""

    def renamed(match: re.Match[str]) -> str:
        name = theirs(match[1].lower())
        return f'"{name if match[1].islower() else name.swapcase()}":'

    return re.sub(rf'(?<!\\)"({"|".join(fields)})"\s*:', renamed, line, flags=re.IGNORECASE)


def project_with_names(folder: Path) -> Path:
    project = copy_of_the_project(folder)
    configuration = project / "dbt_project.yml"
    text = configuration.read_text(encoding="utf-8")
    begin, end = text.index("  field_names:"), text.index("  # The authority that issued")
    mapping = {topic: {ours: theirs(ours) for ours in names} for topic, names in NAMES.items()}
    told = yaml.safe_dump({"field_names": mapping}, sort_keys=False)
    indented = "".join(f"  {line}\n" for line in told.splitlines())
    configuration.write_text(text[:begin] + indented + text[end:], encoding="utf-8")
    return project


def renamed_topics(topics: Path, folder: Path) -> Path:
    folder.mkdir()
    for topic, names in NAMES.items():
        lines = (topics / f"{topic}.jsonl").read_text("utf-8", "surrogateescape").split("\n")
        text = "\n".join(respell(line, list(names)) for line in lines)
        (folder / f"{topic}.jsonl").write_text(text, "utf-8", "surrogateescape")
    return folder


@pytest.fixture(params=["duckdb", "postgres"])
def fresh(request: pytest.FixtureRequest) -> Warehouse:
    if request.param == "duckdb":
        return DuckDB(request.getfixturevalue("duckdb_path"))
    server: Postgres = request.getfixturevalue("postgres")
    return server


@pytest.fixture
def ours(fresh: Warehouse, request: pytest.FixtureRequest) -> Built:
    hospital = request.getfixturevalue("hospital")
    built: Built = hospital.duckdb if fresh.target == "duckdb" else hospital.postgres
    return built


def test_every_field_may_have_another_name(
    fresh: Warehouse, ours: Built, tmp_path: Path, profiles_dir: Path
) -> None:
    topics = renamed_topics(ours.runner.folder.parent / "topics", tmp_path / "renamed")
    project = project_with_names(tmp_path / "project")
    runner = Runner(tmp_path, profiles_dir, {**fresh.env, "CDW_TARGET": fresh.target}, project)
    runner.load(topics)
    runner.dbt("run", "--select", *STAGING)
    for model in STAGING:
        columns = ", ".join(
            str(row[0])
            for row in fresh.rows(
                "select column_name from information_schema.columns where table_schema = 'staging' "
                f"and table_name = '{model}' and column_name <> '_topic_id' order by 1"
            )
        )
        query = f"select {columns} from staging.{model} order by _offset"
        assert fresh.rows(query) == ours.warehouse.rows(query), model
        assert fresh.rows(f"select count(*) from staging.{model}") > [(0,)]
    rejects = fresh.rows(REJECTS)
    assert rejects == [row for row in ours.warehouse.rows(REJECTS) if row[0] in NAMES]
    assert {"E_KEY_CASE", "E_REPEATED_KEY"} <= {row[2] for row in rejects}
