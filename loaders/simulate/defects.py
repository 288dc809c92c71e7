"""Defects as in the field, each a small function over one device's readings.

A defect sees the readings in the order in which they arrive and leaves those outside its time alone.
"""

import heapq
import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from loaders.simulate.hospital import METRICS, Device, Metric
from loaders.simulate.telemetry import Reading, as_line
from loaders.simulate.times import HOUR, MINUTE, SECOND

HPA_PER_CMH2O = 0.980665
UNKNOWN_UNIT = "counts"
"""What a service mode reports instead of L/min: raw steps of the converter, which no table can convert."""


@dataclass(frozen=True)
class Injection:
    """One defect of one device during ``[started_at, ended_at)`` (ms of true time).

    ``metrics`` are those it touches; empty means the whole device. ``simulation_ends_at`` in ms.
    """

    name: str
    device: Device
    metrics: tuple[Metric, ...]
    started_at: int
    ended_at: int
    simulation_ends_at: int
    rng: Random

    def covers(self, reading: Reading) -> bool:
        """Whether the reading was measured during the defect, of a metric that it touches."""
        return self.started_at <= reading.at < self.ended_at and (
            not self.metrics or reading.metric in self.metrics
        )

    def progress(self, reading: Reading) -> float:
        """How much of the defect's time has passed, from 0 to 1."""
        return (reading.at - self.started_at) / (self.ended_at - self.started_at)


Readings = Iterator[Reading]


def altered(readings: Readings, injection: Injection, alter: Callable[[Reading], Reading]) -> Readings:
    """Put each reading of the defect through ``alter``."""
    return (alter(reading) if injection.covers(reading) else reading for reading in readings)


def pressure_oscillating(readings: Readings, injection: Injection) -> Readings:
    """Pressure swings by ±2 cmH2O every four minutes, above and below any usual tolerance."""

    def swing(reading: Reading) -> Reading:
        turn = 2 * math.pi * (reading.at - injection.started_at) / (4 * MINUTE)
        return reading._replace(value=round(reading.value + 2.0 * math.sin(turn), 2))

    return altered(readings, injection, swing)


def falling(readings: Readings, injection: Injection) -> Readings:
    """The metric sinks steadily to a quarter of what it was, and is back at once after the repair."""

    def sink(reading: Reading) -> Reading:
        return reading._replace(value=round(reading.value * (1 - 0.75 * injection.progress(reading)), 3))

    return altered(readings, injection, sink)


def clogged_filter(readings: Readings, injection: Injection) -> Readings:
    """Pressure climbs by 7 % of its usual value each hour while the flow rate holds."""

    def climb(reading: Reading) -> Reading:
        hours = (reading.at - injection.started_at) / HOUR
        return reading._replace(value=round(reading.value * (1 + 0.07 * hours), 2))

    return altered(readings, injection, climb)


def sensor_stuck(readings: Readings, injection: Injection) -> Readings:
    """One metric repeats its first value to the last digit."""
    values: list[float] = []

    def stick(reading: Reading) -> Reading:
        if not values:
            values.append(reading.value)
        return reading._replace(value=values[0])

    return altered(readings, injection, stick)


def device_silent(readings: Readings, injection: Injection) -> Readings:
    """Nothing comes, and what was not sent never will be."""
    return (reading for reading in readings if not injection.covers(reading))


def clock_wrong(readings: Readings, injection: Injection) -> Readings:
    """The clock is set back by hours, then by mistake ahead, past the end of the simulation."""
    middle = (injection.started_at + injection.ended_at) // 2
    # Odd seconds, so that no wrong time falls upon a right one of the same device.
    behind = 2 * HOUR + 47 * MINUTE + 13 * SECOND
    ahead = injection.simulation_ends_at - middle + 6 * HOUR + 13 * SECOND

    def misdate(reading: Reading) -> Reading:
        return reading._replace(stamped_at=reading.at + (ahead if reading.at >= middle else -behind))

    return altered(readings, injection, misdate)


def duplicates(readings: Readings, injection: Injection) -> Readings:
    """A third come twice; another third come in a wrong and a right version, told apart by sequence.

    The right version, which is the healthy value, has the higher sequence and comes first every other time.
    """
    wrong_first = False
    for reading in readings:
        choice = injection.rng.randrange(3) if injection.covers(reading) else 2
        if choice == 0:
            yield reading
            yield reading
        elif choice == 1:
            wrong = reading._replace(value=round(reading.value * 1.5, 3))
            right = reading._replace(sequence=(reading.sequence or 0) + 1)
            wrong_first = not wrong_first
            yield from (wrong, right) if wrong_first else (right, wrong)
        else:
            yield reading


def late(readings: Readings, injection: Injection) -> Readings:
    """The device loses its network, keeps its readings, and sends them all when it is back."""
    back_at = injection.ended_at + 20 * MINUTE

    def delay(reading: Reading) -> int:
        # What was kept goes out a hundred times as fast as it was measured.
        return back_at + (reading.at - injection.started_at) // 100 - reading.arrived_at

    return delayed(readings, injection, delay)


def out_of_order(readings: Readings, injection: Injection) -> Readings:
    """Readings take up to four minutes more to come, each its own time, and overtake each other."""
    return delayed(readings, injection, lambda _: injection.rng.randrange(4 * MINUTE))


def delayed(readings: Readings, injection: Injection, delay: Callable[[Reading], int]) -> Readings:
    """Have the readings of the defect arrive later by ``delay`` (ms), holding only those under way."""
    under_way: list[tuple[int, int, Reading]] = []
    for number, reading in enumerate(readings):
        now = reading.arrived_at
        arrives = now + delay(reading) if injection.covers(reading) else now
        heapq.heappush(under_way, (arrives, number, reading._replace(arrived_at=arrives)))
        while under_way and under_way[0][0] <= now:
            yield heapq.heappop(under_way)[2]
    while under_way:
        yield heapq.heappop(under_way)[2]


def wrong_units(readings: Readings, injection: Injection) -> Readings:
    """Pressure comes in hPa, later in kPa, rightly converted; FlowRate in a unit nobody knows."""

    def convert(reading: Reading) -> Reading:
        if reading.metric == "FlowRate":
            return reading._replace(value=round(reading.value * 1000), unit=UNKNOWN_UNIT)
        if injection.progress(reading) < 0.5:
            return reading._replace(value=round(reading.value * HPA_PER_CMH2O, 4), unit="hPa")
        return reading._replace(value=round(reading.value * HPA_PER_CMH2O / 10, 5), unit="kPa")

    return altered(readings, injection, convert)


def garbage(readings: Readings, injection: Injection) -> Readings:
    """A third of the lines are spoilt, in each of the ways of ``SPOILERS`` in turn."""
    spoilers = itertools.cycle(SPOILERS)

    def spoil(reading: Reading) -> Reading:
        if injection.rng.randrange(3):
            return reading
        line = as_line(injection.device, reading).removesuffix(b"\n")
        return reading._replace(line=next(spoilers)(line))

    return altered(readings, injection, spoil)


def without(field: str) -> Callable[[bytes], bytes]:
    """A spoiler that leaves a field out."""

    def spoil(line: bytes) -> bytes:
        record = json.loads(line)
        del record[field]
        return json.dumps(record, separators=(",", ":")).encode()

    return spoil


def with_value(text: bytes) -> Callable[[bytes], bytes]:
    """A spoiler that writes ``text`` where the number was."""

    def spoil(line: bytes) -> bytes:
        before, after = line.split(b'"metric_value":')
        return before + b'"metric_value":' + text + after[after.index(b",") if b"," in after else -1 :]

    return spoil


def with_name_ending(text: bytes) -> Callable[[bytes], bytes]:
    """A spoiler that puts ``text`` behind the name of the metric."""
    return lambda line: line.replace(b'","metric_value"', text + b'","metric_value"')


SPOILERS: tuple[Callable[[bytes], bytes], ...] = (
    lambda line: line[: len(line) * 2 // 3],
    lambda _: b"ERR 0x1F watchdog reset",
    without("metric_value"),
    without("device_id"),
    without("ts"),
    with_value(b"NaN"),
    with_value(b'"n/a"'),
    with_value(b"1e999"),
    with_value(b"null"),
    with_name_ending(rb"\u0000"),
    with_name_ending(rb"\ud83d"),
    with_name_ending(b"\xff\xfe"),
    lambda line: line.replace(b'{"device_id"', b'{"metric_value":0.0,"device_id"'),
    lambda line: line.replace(b'"metric_name"', b'"Metric_Name"'),
    lambda line: line.replace(b'"ts":', b'"ts":"yesterday","at":'),
    lambda line: b"[" + line + b"]",
)
"""Ways in which a line is no reading: cut off, not JSON, a field missing, no finite number, text that no
database takes, a key repeated or in another case, a time that is none, not an object."""


@dataclass(frozen=True)
class Kind:
    """A defect's function, what it touches (empty: the whole device), and how long it lasts (minutes).

    ``one_of_metrics`` has chance choose one of the metrics; ``whole_hours`` has it begin and end on the hour.
    """

    apply: Callable[[Readings, Injection], Readings]
    metrics: tuple[Metric, ...]
    shortest: int
    longest: int
    one_of_metrics: bool = False
    whole_hours: bool = False


KINDS: dict[str, Kind] = {
    "pressure_oscillating": Kind(pressure_oscillating, ("Pressure",), 90, 240),
    "clogged_filter": Kind(clogged_filter, ("Pressure",), 240, 360, whole_hours=True),
    "device_silent": Kind(device_silent, (), 45, 180),
    "garbage": Kind(garbage, (), 30, 90),
    "flow_rate_falling": Kind(falling, ("FlowRate",), 60, 180),
    "duplicates": Kind(duplicates, (), 30, 120),
    "late": Kind(late, (), 30, 120),
    "wrong_units": Kind(wrong_units, ("Pressure", "FlowRate"), 30, 90),
    "sensor_stuck": Kind(sensor_stuck, METRICS, 60, 240, one_of_metrics=True),
    "clock_wrong": Kind(clock_wrong, (), 60, 120),
    "flow_level_falling": Kind(falling, ("FlowLevel",), 60, 180),
    "out_of_order": Kind(out_of_order, (), 30, 120),
}
"""Every defect by name, in the order in which the default choice gives them out."""
