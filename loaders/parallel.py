"""A function over many values, in several processes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], values: Iterable[T], workers: int) -> Iterator[R]:
    """Like ``map``, in ``workers`` processes; with one, in this one.

    Results come in the order of the values; no more values are taken than the workers need to be busy.
    """
    if workers == 1:
        yield from map(function, values)
        return
    with ProcessPoolExecutor(workers) as pool:
        pending: deque[Future[R]] = deque()
        for value in values:
            pending.append(pool.submit(function, value))
            if len(pending) > workers + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
