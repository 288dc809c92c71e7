"""``cdw load`` in a process of its own that may harm itself: python -m tests.faults.kafka_child HARM OPTION…

HARM is ``none`` or ``WHEN:STEP:SIGNAL:N``: at the N-th time, ``before`` or ``after`` that step of the load
transaction, it sends itself SIGNAL. Steps are the methods of a warehouse; on DuckDB ``commit`` and ``close``
are steps as well, and harmed ``within``, at a moment that differs from one process to the next.
CDW_PLANT names a defect that it is given, so that the tests can be seen to find it.
It says ``running`` once signals stop it in good order, ``placed`` with coordinates when it has taken up a
partition, and ``loaded`` when it has committed a batch.
"""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb

from loaders import cli
from loaders.kafka.cluster import Key
from loaders.kafka.load import KafkaLoad
from loaders.kafka.pending import Draft, Pending
from loaders.kafka.source import KafkaSource
from loaders.warehouse.duckdb import DuckdbWarehouse
from loaders.warehouse.postgres import PostgresWarehouse
from loaders.warehouse.protocol import Batch
from loaders.warehouse.sql import SqlWarehouse

_WITHIN_SECONDS = 0.004


def _say(*words: object) -> None:
    # One write, so that lines of several threads do not run into each other.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def _speak() -> None:
    """Say what the tests wait for."""
    run, loaded, place = KafkaLoad.run, Pending.loaded, KafkaSource.place

    def say_loaded(self: Pending, drafts: Sequence[Draft], batches: Sequence[Batch]) -> None:
        loaded(self, drafts, batches)
        for batch in batches:
            _say("loaded", batch.partition.topic.name, batch.partition.number, batch.next_offset)

    def say_placed(self: KafkaSource, positions: Mapping[Key, int]) -> None:
        place(self, positions)
        for key, offset in positions.items():
            _say("placed", key.topic, key.number, offset)

    def say_running(self: KafkaLoad) -> None:
        _say("running")
        run(self)

    setattr(KafkaLoad, "run", say_running)  # noqa: B010
    setattr(Pending, "loaded", say_loaded)  # noqa: B010 - a method, for this process
    setattr(KafkaSource, "place", say_placed)  # noqa: B010


class _Harm:
    """A signal to this process at the N-th time."""

    def __init__(self, number: signal.Signals, times: int) -> None:
        self._number = number
        self._left = times

    def is_due(self) -> bool:
        self._left -= 1
        return self._left == 0

    def strike(self) -> None:
        os.kill(os.getpid(), self._number)

    def strike_soon(self) -> None:
        """From another thread, while this one is in the driver."""
        delay = random.random() * _WITHIN_SECONDS

        def strike() -> None:
            time.sleep(delay)
            self.strike()

        threading.Thread(target=strike, daemon=True).start()


def _wrapped(step: Callable[..., Any], when: str, harm: _Harm) -> Callable[..., Any]:
    def harmed(*arguments: Any, **named: Any) -> Any:
        is_due = harm.is_due()
        if is_due and when == "before":
            harm.strike()
        if is_due and when == "within":
            harm.strike_soon()
        result = step(*arguments, **named)
        if is_due and when == "after":
            harm.strike()
        return result

    return harmed


class _HarmedConnection:
    """A DuckDB connection whose commit or close is a step; the driver's own cannot be replaced."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, step: str, when: str, harm: _Harm) -> None:
        self._connection = connection
        self._step, self._when, self._harm = step, when, harm
        self._has_appended = False

    def __getattr__(self, name: str) -> Any:
        if name == "register":  # only in transactions that append
            self._has_appended = True
        found = getattr(self._connection, name)
        if name == self._step and self._has_appended:
            return _wrapped(found, self._when, self._harm)
        return found

    def __enter__(self) -> "_HarmedConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self.__getattr__("close")()


def _harm(text: str) -> None:
    when, step, number, times = text.split(":")
    harm = _Harm(signal.Signals[number], int(times))
    if step in {"commit", "close"}:
        opened = DuckdbWarehouse._open
        setattr(  # noqa: B010
            DuckdbWarehouse, "_open", lambda self: _HarmedConnection(opened(self), step, when, harm)
        )
        return
    for owner in [kind for kind in SqlWarehouse.__subclasses__() if step in vars(kind)] or [SqlWarehouse]:
        setattr(owner, step, _wrapped(getattr(owner, step), when, harm))


# Defects, all but one for Postgres only.


def _position_first() -> None:
    """The position is committed before the rows."""
    move = PostgresWarehouse._move_position

    def moved(self: PostgresWarehouse, batch: Batch) -> None:
        move(self, batch)
        self._execute("commit")
        self._execute("begin")

    setattr(PostgresWarehouse, "_move_position", moved)  # noqa: B010


def _rows_first() -> None:
    """The rows are committed before the position."""
    append = PostgresWarehouse._append

    def appended(self: PostgresWarehouse, *arguments: Any) -> None:
        within = self._connected
        self._connected = self._connect()
        append(self, *arguments)
        self._connected.close()
        self._connected = within

    setattr(PostgresWarehouse, "_append", appended)  # noqa: B010


def _blind() -> None:
    """The position is moved from wherever it stands."""
    execute = PostgresWarehouse._execute

    def executed(self: PostgresWarehouse, sql: str, parameters: Sequence[Any] = ()) -> Any:
        if " and next_offset = %s returning" in sql:
            sql, parameters = sql.replace(" and next_offset = %s returning", " returning"), parameters[:-1]
        return execute(self, sql, parameters)

    setattr(PostgresWarehouse, "_execute", executed)  # noqa: B010


def _careless() -> None:
    """A record in fifty falls under the table."""
    take = Pending.message

    def taken(self: Pending, key: Key, message: Any) -> None:
        if message.offset() % 50 == 7:
            self.end(key, message.offset() + 1)
        else:
            take(self, key, message)

    setattr(Pending, "message", taken)  # noqa: B010


_PLANTS = {
    "position_first": _position_first,
    "rows_first": _rows_first,
    "blind": _blind,
    "careless": _careless,
}


if __name__ == "__main__":
    _speak()
    if plant := os.environ.get("CDW_PLANT"):
        _PLANTS[plant]()
    if sys.argv[1] != "none":
        _harm(sys.argv[1])
    sys.argv[1:2] = ["load"]
    cli.main()
