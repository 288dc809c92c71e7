"""A loader in a process of its own that harms itself: python -m tests.faults.load_child DIR POINT SIGNAL N.

At the N-th time that POINT (a step of the load transaction) is done, it sends itself SIGNAL: SIGKILL dies
there, SIGSTOP stays there until it is woken. POINT "nowhere" just loads. It says
``loading`` when it begins and ``loaded`` after each batch.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loaders.errors import CdwError
from loaders.load import load_directory
from loaders.warehouse.protocol import Batch
from loaders.warehouse.sql import SqlWarehouse


def harm_after(owner: type, step: str, number: signal.Signals, times: int) -> None:
    done: Callable[..., Any] = getattr(owner, step)
    count = 0

    def harmed(*arguments: Any) -> Any:
        nonlocal count
        result = done(*arguments)
        count += 1
        if count == times:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, step, harmed)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


class Speaker:
    def begin(self, sizes: Mapping[str, int]) -> None:
        _say("loading")

    def loaded(self, batch: Batch) -> None:
        _say("loaded")


def main(directory: str, point: str, number: str, times: str) -> None:
    if point != "nowhere":
        owners = [kind for kind in SqlWarehouse.__subclasses__() if point in vars(kind)] or [SqlWarehouse]
        for owner in owners:
            harm_after(owner, point, signal.Signals[number], int(times))
    try:
        load_directory(Path(directory), observer=Speaker())
    except CdwError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
