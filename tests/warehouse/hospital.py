"""A small hospital in topic directories and warehouses, for tests that need the whole way."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LOADED_AT = "2026-01-05T12:00:00Z"


class Runner:
    """Runs ``cdw`` and ``dbt`` as a user does, and keeps every word they say."""

    def __init__(
        self, folder: Path, profiles_dir: Path, env: dict[str, str], project: Path = PROJECT
    ) -> None:
        self.folder = folder
        self.project = project
        self.said = folder / "said.log"
        self.logs = folder / "logs"
        self.target = folder / "target"
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("CDW_", "PG", "DBT_"))
        }
        self.env = {
            **kept,
            **env,
            "CDW_PROJECT_DIR": str(project),
            "DBT_PROJECT_DIR": str(project),
            "DBT_PROFILES_DIR": str(profiles_dir),
            "DBT_TARGET_PATH": str(self.target),
            "DBT_LOG_PATH": str(self.logs),
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=self.folder,
            env=self.env,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        with self.said.open("a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(command)}\n{done.stdout}\n")
        return done

    def check(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout[-6000:]}"
        return done.stdout

    def load(self, topics: Path, loaded_at: str = LOADED_AT) -> str:
        return self.check("cdw", "load", "--from", str(topics), "--loaded-at", loaded_at)

    def dbt(self, *arguments: str) -> str:
        return self.check("dbt", "--no-use-colors", *arguments)


def copy_of_the_project(folder: Path) -> Path:
    """The dbt project without its Python, to be changed."""
    ignored = shutil.ignore_patterns(".*", "*.py", "target", "logs", "demo", "topics", "*.duckdb*")
    return Path(shutil.copytree(PROJECT, folder, ignore=ignored))


def make_topics(runner: Runner, topics: Path, *hl7_files: Path) -> Path:
    """A hospital of 20 patients over 12 hours, with the project's example messages."""
    runner.check("cdw", "simulate", "--out", str(topics), "--seed", "7", "--hours", "12")
    examples = sorted((PROJECT / "examples" / "hl7").glob("*.hl7"))
    files = [*examples, *sorted((topics / "hl7").glob("*.hl7")), *hl7_files]
    runner.check("cdw", "ingest", *map(str, files), "--to-dir", str(topics))
    return topics
