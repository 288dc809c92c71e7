"""One function over many values in several processes, its output in one order."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import Any, BinaryIO, TypeVar

from loaders.errors import CdwError

T = TypeVar("T")
R = TypeVar("R")

_STOPPED = -1
_LOOK_SECONDS = 0.0002


def write_in_order(
    function: Callable[[T], tuple[bytes, R]], values: Iterable[T], out: BinaryIO, workers: int
) -> Iterator[R]:
    """Write the bytes that a function makes of each value, and yield what else it gives; all in their order.

    With one worker all is done in this process. With more, each writes what it has made when its turn has
    come: what may be much is not sent to another process first. Two values a worker are taken ahead at most.

    Args:
        function: can be sent to another process, as can the values and what it gives.
        values: what it is called with.
        out: an open file with a descriptor.
        workers: how many processes.

    Raises:
        OSError: the output cannot be written.
        CdwError: a worker was ended from outside.
    """
    out.flush()
    if workers == 1:
        for value in values:
            data, rest = function(value)
            _write(out.fileno(), data)
            yield rest
        return
    processes = get_context("fork")  # the descriptor is theirs too
    turn = processes.Value("q", 0, lock=False)
    with ProcessPoolExecutor(
        workers, mp_context=processes, initializer=_start, initargs=(function, out.fileno(), turn)
    ) as pool:
        pending: deque[Future[Any]] = deque()
        try:
            for number, value in enumerate(values):
                pending.append(pool.submit(_work, number, value))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise CdwError(
                "a worker process was ended from outside, for want of memory perhaps",
                where=f"one of {workers} workers",
                do="run the command again, with fewer workers; what was written is not complete",
            ) from None
        finally:
            turn.value = _STOPPED


# Of a worker: what it shares with the others, set when it starts.
_function: Callable[[Any], tuple[bytes, Any]]
_descriptor: int
# The number of the value whose bytes are next. Only who has that number changes it, so there is no lock.
_turn: Any


def _start(function: Callable[[Any], tuple[bytes, Any]], descriptor: int, turn: Any) -> None:
    global _function, _descriptor, _turn
    _function, _descriptor, _turn = function, descriptor, turn
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the first process has ended, however that came about."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(number: int, value: Any) -> Any:
    try:
        data, rest = _function(value)
        # Whoever it waits for may be killed: a lock would never be released then.
        while _turn.value not in {number, _STOPPED}:
            time.sleep(_LOOK_SECONDS)
        if _turn.value == number:
            _write(_descriptor, data)
            _turn.value = number + 1
    except BaseException:
        _turn.value = _STOPPED
        raise
    return rest


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it: one call may write a part, which an unbuffered file would not tell."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
