"""Models compile for Redshift with no cluster to ask: none of them introspects, every macro has a version."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.warehouse.hospital import Runner

COMPILE = ("dbt", "--no-use-colors", "compile", "--target", "redshift", "--no-populate-cache")
# Nothing listens on port 1.
NOBODY = {"REDSHIFT_HOST": "127.0.0.1", "REDSHIFT_PORT": "1"}


def test_every_model_compiles(tmp_path: Path, profiles_dir: Path) -> None:
    runner = Runner(tmp_path, profiles_dir, NOBODY)
    runner.check(*COMPILE)
    compiled = {file.stem for file in (runner.target / "compiled").rglob("models/**/*.sql")}
    assert compiled >= {file.stem for file in (PROJECT / "models").rglob("*.sql")}


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("{% if execute %}{% do run_query('select 1') %}{% endif %}", "communication error"),
        ("{{ adapter.dispatch('nowhere')() }}", "nowhere"),
    ],
)
def test_a_model_that_needs_a_cluster_or_lacks_a_version_is_noticed(
    tmp_path: Path, profiles_dir: Path, planted: str, said: str
) -> None:
    project = tmp_path / "project"
    for folder in ("macros", "models", "seeds", "tests/generic"):
        shutil.copytree(PROJECT / folder, project / folder)
    shutil.copy(PROJECT / "dbt_project.yml", project)
    model = project / "models" / "staging" / "devices" / "stg_devices__telemetry.sql"
    model.write_text(model.read_text(encoding="utf-8") + planted, encoding="utf-8")
    runner = Runner(tmp_path, profiles_dir, NOBODY, project)
    failed = runner.run(*COMPILE, "--select", "stg_devices__telemetry")
    assert failed.returncode != 0
    assert said in failed.stdout
