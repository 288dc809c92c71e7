"""How a simulation goes, told on stderr: a bar on a terminal, plain lines elsewhere."""

import sys
from contextlib import ExitStack

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn


class SimulationProgress(ExitStack):
    """Told what is being written and how much of it is done; to be used in a ``with``."""

    def __init__(self) -> None:
        """Start the bar, which leaving the ``with`` takes down."""
        super().__init__()
        console = Console(stderr=True)
        self._quarters: dict[str, int] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
            )
            self._bar = self.enter_context(Progress(*columns, console=console))

    def __call__(self, name: str, done: float) -> None:
        """``done`` of what is called ``name`` is written, from 0 to 1; lines come every quarter."""
        if self._bar:
            if name not in self._tasks:
                self._tasks[name] = self._bar.add_task(name, total=1.0)
            self._bar.update(self._tasks[name], completed=done)
            return
        quarter = int(done * 4)
        if quarter > self._quarters.get(name, 0):
            self._quarters[name] = quarter
            sys.stderr.write(f"{name}: {quarter * 25} %\n")
