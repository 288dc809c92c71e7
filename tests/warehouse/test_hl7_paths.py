"""hl7() by path: what it compiles to where nothing can be run, and that it takes no path that is none."""

from pathlib import Path

import pytest

from tests.warehouse.hospital import Runner

COMPILE = ("dbt", "--no-use-colors", "compile", "--no-populate-cache", "--inline")


@pytest.fixture
def runner(tmp_path: Path, profiles_dir: Path) -> Runner:
    nobody = {"REDSHIFT_HOST": "127.0.0.1", "REDSHIFT_PORT": "1", "CDW_DUCKDB_PATH": ":memory:"}
    return Runner(tmp_path, profiles_dir, nobody)


def test_paths_for_redshift(runner: Runner) -> None:
    paths = ["'PID-3'", "'PID-3.1'", "'PID-3.1.1'", "'PID-3.4.2', 1", "'PID-11.12.3', 2"]
    query = "\n".join(f"{{{{ hl7({path}) }}}}" for path in paths)
    compiled = runner.check(*COMPILE, query, "--target", "redshift")
    read = [line.split(" then ")[1] for line in compiled.splitlines() if " then " in line]
    assert read == [
        'cast(fields."3"[0]."1" as varchar(65535)) end',
        'cast(fields."3"[0]."1" as varchar(65535)) end',
        'cast(fields."3"[0]."1" as varchar(65535)) end',
        'cast(fields."3"[1]."4.2" as varchar(65535)) end',
        'cast(fields."11"[2]."12.3" as varchar(65535)) end',
    ]


@pytest.mark.parametrize("path", ["PID", "PID.5.1", "PID-5.1.2.3", "PID-5.", "Pid-5"])
def test_what_is_no_path_does_not_compile(runner: Runner, path: str) -> None:
    done = runner.run(*COMPILE, f"{{{{ hl7('{path}') }}}}")
    assert done.returncode != 0
    assert "a path is like" in done.stdout
