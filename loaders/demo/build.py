"""``dbt build`` with its progress told, and nothing of what a database says."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from loaders.errors import CdwError

_LINES = 10


def dbt_build(project: Path, target: str) -> None:
    """Build and test every model of ``project`` on ``target``, with progress on stderr.

    Unit tests are left to ``make test``: they prove the models, not the data.

    Raises:
        CdwError: a model or a test failed; their names are in the message, a database's words are not.
    """
    command = [sys.executable, "-m", "dbt.cli.main", "--log-format", "json", "build", "--target", target]
    command += ["--exclude-resource-type", "unit_test", "--project-dir", str(project)]
    failed: list[str] = []
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as dbt,
        _progress() as progress,
    ):
        task = progress.add_task("dbt build", total=None)
        for done, total, name, status in _finished_nodes(dbt):
            progress.update(task, completed=done, total=total)
            if not progress.console.is_terminal and done * _LINES // total > (done - 1) * _LINES // total:
                progress.console.print(f"    {done} of {total} models and tests done")
            if status not in {"success", "pass", "warn"}:
                failed.append(f"{name} ({status})")
    if dbt.returncode or failed:
        raise CdwError(
            f"dbt build failed: {', '.join(failed) or f'exit code {dbt.returncode}'}",
            where=str(project),
            do=f"run dbt build --target {target} there to see it again; its log is logs/dbt.log",
        )


def _progress() -> Progress:
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("    {task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _finished_nodes(dbt: subprocess.Popen[str]) -> Iterator[tuple[int, int, str, str]]:
    """Number, total, name and status of every node, as dbt's log tells that it is done."""
    assert dbt.stdout
    done = 0
    total = 0
    for line in dbt.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        data = event.get("data", {})
        total = int(data.get("total", total))
        if event.get("info", {}).get("name") == "NodeFinished":
            done += 1
            node = data["node_info"]
            yield done, max(total, done), node["node_name"], node["node_status"]
