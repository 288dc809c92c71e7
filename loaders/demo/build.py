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
    dbt_command = str(Path(sys.executable).with_name("dbt"))
    command = [dbt_command, "--log-format", "json", "build", "--target", target]
    command += ["--exclude-resource-type", "unit_test"]
    failed: list[str] = []
    with (
        subprocess.Popen(
            command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as dbt,
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
    total = 1
    for line in dbt.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        data = event["data"]
        total = data.get("total", total)
        # LogModelResult, LogTestResult, LogSeedResult
        if event["info"]["name"].endswith("Result"):
            done += 1
            yield done, total, data["node_info"]["node_name"], data["node_info"]["node_status"]
