"""How a load goes, told on stderr: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from loaders.warehouse.protocol import Batch

_SECONDS_A_LINE = 5.0


class LoadProgress:
    """An observer of a load, to be used in a ``with``."""

    def __init__(self) -> None:
        """Draw nothing yet."""
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TimeRemainingColumn(),
                console=console,
            )
        self._total: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._told_at = time.monotonic()

    def begin(self, sizes: Mapping[str, int]) -> None:
        """The load begins; ``sizes`` are the bytes to read by topic."""
        self._total = dict(sizes)
        self._done = dict.fromkeys(sizes, 0)
        if self._bar:
            for name, size in sizes.items():
                self._bar.add_task(name, total=size)

    def loaded(self, batch: Batch) -> None:
        """A batch has been committed."""
        name = batch.partition.topic.name
        self._done[name] += batch.byte_count
        if self._bar:
            self._bar.advance(self._bar.task_ids[list(self._total).index(name)], batch.byte_count)
            return
        is_done = self._done[name] >= self._total[name]
        if is_done or time.monotonic() - self._told_at >= _SECONDS_A_LINE:
            self._told_at = time.monotonic()
            percent = 100 * self._done[name] // max(self._total[name], 1)
            sys.stderr.write(f"{name}: {percent} %, next offset {batch.next_offset}\n")

    def __enter__(self) -> Self:
        """Start the bar."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        if self._bar:
            self._bar.stop()
