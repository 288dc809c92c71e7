"""``make demo``, as a newcomer runs it, and what the README says it finds."""

import re
from pathlib import Path

from tests.conftest import PROJECT
from tests.warehouse.hospital import Runner, copy_of_the_project

_SECTION = re.compile(r"<!-- demo: begin .*? -->\n\n```text\n(.*?)```\n\n<!-- demo: end -->", re.DOTALL)


def test_demo_finds_what_the_readme_says(tmp_path: Path, profiles_dir: Path) -> None:
    runner = Runner(tmp_path, profiles_dir, {"COLUMNS": "118"})
    printed = runner.check("cdw", "demo")
    told = _SECTION.search((PROJECT / "README.md").read_text(encoding="utf-8"))
    assert told, "the README has no section of what the demo found"
    found = "\n".join(line.rstrip() for line in printed.splitlines())
    # To renew it: COLUMNS=118 make demo, from "Marts" to the last of the rejected input.
    assert told[1] in found
    for step in ("1/4 ", "2/4 ", "3/4 ", "4/4 ", "models and tests done", "Warehouse: demo/warehouse.duckdb"):
        assert step in printed


def test_demo_runs_again_in_its_own_directory_only(tmp_path: Path, profiles_dir: Path) -> None:
    runner = Runner(tmp_path, profiles_dir, {})
    taken = tmp_path / "mine"
    taken.mkdir()
    (taken / "precious.txt").touch()
    refused = runner.run("cdw", "demo", "--out", "mine", "--patients", "1", "--hours", "1")
    assert refused.returncode == 1
    assert "not a demo" in refused.stdout
    assert (taken / "precious.txt").exists()


def test_demo_says_which_test_failed(tmp_path: Path, profiles_dir: Path) -> None:
    project = copy_of_the_project(tmp_path / "project")
    never = project / "tests" / "singular" / "never_passes.sql"
    never.write_text("select 1 as one", encoding="utf-8")
    failed = Runner(tmp_path, profiles_dir, {}, project).run("cdw", "demo", "--patients", "1", "--hours", "1")
    assert failed.returncode == 1
    assert "cdw: dbt build failed: never_passes (fail)\n" in failed.stdout
    assert "Marts" not in failed.stdout
