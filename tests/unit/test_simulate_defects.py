"""Each defect does what its name says, and nothing before or after it."""

import json
import math
from collections import Counter, defaultdict
from dataclasses import replace
from functools import lru_cache
from itertools import groupby, pairwise
from statistics import fmean
from typing import Any

import pytest

from loaders.simulate.config import Config
from loaders.simulate.defects import KINDS, UNKNOWN_UNIT, Injection
from loaders.simulate.scenario import Scenario, plan
from loaders.simulate.stream import device_readings
from loaders.simulate.telemetry import DECIMALS, Reading, as_line
from loaders.simulate.times import HOUR, MINUTE

SEEDS = range(4)
DEVICES = ("DEV-0001", "DEV-0002", "DEV-0003", "DEV-0004")


class Case:
    """A device with one defect, beside the same device without it."""

    def __init__(self, name: str, seed: int) -> None:
        # The makes of devices take turns, so each is tried.
        device_id = DEVICES[seed % len(DEVICES)]
        scenario = plan(Config(seed, 4, 24, defects=((name, device_id),)))
        self.injection: Injection = scenario.injections[0]
        self.device = self.injection.device
        self.with_defect = self._readings(scenario)
        self.without = self._readings(replace(scenario, injections=[]))

    def _readings(self, scenario: Scenario) -> list[Reading]:
        return list(device_readings(scenario, DEVICES.index(self.device.device_id)))

    def inside(self, metric: str | None = None) -> list[Reading]:
        return [r for r in self.with_defect if self.injection.covers(r) and metric in (None, r.metric)]

    def inside_without(self, metric: str | None = None) -> list[Reading]:
        return [r for r in self.without if self.injection.covers(r) and metric in (None, r.metric)]

    def hourly_means(self, metric: str) -> list[float]:
        by_hour = defaultdict(list)
        for reading in self.with_defect:
            if reading.metric == metric and self.injection.started_at <= reading.at < self.injection.ended_at:
                by_hour[reading.at // HOUR].append(reading.value)
        return [fmean(by_hour[hour]) for hour in sorted(by_hour)]


@lru_cache(maxsize=len(KINDS) * len(SEEDS))
def make_case(name: str, seed: int) -> Case:
    return Case(name, seed)


@pytest.fixture(params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    value: int = request.param
    return value


@pytest.mark.parametrize("name", KINDS)
def test_outside_its_time_and_metrics_nothing_changes(name: str, seed: int) -> None:
    case = make_case(name, seed)
    outside = [r for r in case.with_defect if not case.injection.covers(r)]
    assert outside == [r for r in case.without if not case.injection.covers(r)]
    assert case.inside_without(), "the comparison has something to compare with"
    assert case.inside() != case.inside_without(), "the defect does something"


@pytest.mark.parametrize("name", KINDS)
def test_lines_come_in_order_of_arrival(name: str, seed: int) -> None:
    arrivals = [r.arrived_at for r in make_case(name, seed).with_defect]
    assert arrivals == sorted(arrivals)


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"device_silent", "duplicates"}))
def test_readings_are_neither_lost_nor_added(name: str, seed: int) -> None:
    case = make_case(name, seed)
    assert sorted((r.at, r.metric) for r in case.with_defect) == sorted(
        (r.at, r.metric) for r in case.without
    )


def test_pressure_oscillates_above_and_below_every_two_minutes(seed: int) -> None:
    case = make_case("pressure_oscillating", seed)
    target = case.device.settings["Pressure"]
    sides = [(r.value > target + 1.0) - (r.value < target - 1.0) for r in case.inside("Pressure")]
    swings = [side for side, _ in groupby(side for side in sides if side)]
    minutes = (case.injection.ended_at - case.injection.started_at) / MINUTE
    assert len(swings) == pytest.approx(minutes / 2, rel=0.1)
    assert 0.5 < sum(map(abs, sides)) / len(sides) < 0.9
    # It comes back within tolerance each time: no episode lasts a quarter of an hour.
    longest_out = max(len(list(run)) for is_out, run in groupby(sides, key=bool) if is_out)
    assert longest_out < 30


@pytest.mark.parametrize(
    ("name", "metric"), [("flow_rate_falling", "FlowRate"), ("flow_level_falling", "FlowLevel")]
)
def test_flow_falls_all_the_way_and_comes_back(name: str, metric: str, seed: int) -> None:
    case = make_case(name, seed)
    values = [r.value for r in case.inside(metric)]
    fifth = len(values) // 5
    means = [fmean(values[at : at + fifth]) for at in range(0, 5 * fifth, fifth)]
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.4 * means[0]
    after = [r.value for r in case.with_defect if r.metric == metric and r.at >= case.injection.ended_at][:20]
    assert fmean(after) > 0.85 * means[0]


def test_a_clogged_filter_raises_pressure_each_hour_while_flow_holds(seed: int) -> None:
    case = make_case("clogged_filter", seed)
    assert case.injection.started_at % HOUR == case.injection.ended_at % HOUR == 0
    pressure, flow = case.hourly_means("Pressure"), case.hourly_means("FlowRate")
    assert len(pressure) >= 4
    for first in range(len(pressure) - 2):
        three = pressure[first : first + 3]
        assert three == sorted(three)
        assert three[-1] > 1.10 * three[0]
        assert all(abs(mean / flow[first] - 1) < 0.05 for mean in flow[first : first + 3])


def test_a_stuck_sensor_repeats_itself(seed: int) -> None:
    case = make_case("sensor_stuck", seed)
    (metric,) = case.injection.metrics
    assert len({r.value for r in case.inside(metric)}) == 1
    assert len({r.value for r in case.inside_without(metric)}) > 10


def test_a_silent_device_sends_nothing(seed: int) -> None:
    case = make_case("device_silent", seed)
    assert case.inside() == []
    assert len(case.with_defect) == len(case.without) - len(case.inside_without())


def test_a_wrong_clock_is_behind_and_then_ahead_of_the_whole_simulation(seed: int) -> None:
    case = make_case("clock_wrong", seed)
    errors = {r.stamped_at - r.at for r in case.inside()}
    assert len(errors) == 2
    assert min(errors) < -2 * HOUR
    ahead = [r.stamped_at for r in case.inside() if r.stamped_at > r.at]
    assert 0.4 < len(ahead) / len(case.inside()) < 0.6
    assert min(ahead) > case.injection.simulation_ends_at + HOUR
    # No wrong time is the same as a right one, or it would be a conflict instead.
    identities = Counter((r.metric, r.stamped_at) for r in case.with_defect)
    assert max(identities.values()) == 1


def test_duplicates_are_exact_or_told_apart_by_sequence(seed: int) -> None:
    case = make_case("duplicates", seed)
    truth = {(r.metric, r.stamped_at): r.value for r in case.inside_without()}
    records = defaultdict(list)
    for reading in case.inside():
        records[reading.metric, reading.stamped_at].append(reading)
    assert records.keys() == truth.keys()
    kinds: Counter[str] = Counter()
    for identity, same in records.items():
        if len(same) == 1:
            kinds["single"] += 1
        elif same[0] == same[1]:
            kinds["exact"] += 1
        else:
            kinds["wrong last" if same[1].value != truth[identity] else "wrong first"] += 1
        winner = max(same, key=lambda r: -1 if r.sequence is None else r.sequence)
        assert winner.value == truth[identity]
        assert len(same) <= 2
    assert all(count > 0.1 * len(truth) for count in kinds.values()), kinds
    assert len(kinds) == 4


def test_late_readings_come_after_all_that_was_measured_meanwhile(seed: int) -> None:
    case = make_case("late", seed)
    first = next(n for n, r in enumerate(case.with_defect) if case.injection.covers(r))
    assert case.with_defect[first - 1].at > case.injection.ended_at
    assert all(r.arrived_at - r.at > 15 * MINUTE for r in case.inside())
    assert [r.at for r in case.inside()] == sorted(r.at for r in case.inside())


def test_out_of_order_readings_overtake_each_other_by_minutes_at_most(seed: int) -> None:
    case = make_case("out_of_order", seed)
    times = [r.at for r in case.inside()]
    overtaken = sum(later < earlier for earlier, later in pairwise(times))
    assert overtaken > len(times) / 4
    assert max(r.arrived_at - r.at for r in case.inside()) < 5 * MINUTE


def test_wrong_units_are_converted_or_unknown(seed: int) -> None:
    case = make_case("wrong_units", seed)
    factor = {"hPa": 1 / 0.980665, "kPa": 10 / 0.980665}
    pressure = case.inside("Pressure")
    assert [unit for unit, _ in groupby(r.unit for r in pressure)] == ["hPa", "kPa"]
    for reading, true in zip(pressure, case.inside_without("Pressure"), strict=True):
        assert round(reading.value * factor[reading.unit or ""], DECIMALS["Pressure"]) == true.value
    assert {r.unit for r in case.inside("FlowRate")} == {UNKNOWN_UNIT}


def fault(line: bytes) -> str:
    """What is wrong with a line, found out without the simulator; empty where nothing is."""
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs.extend(found)
        return dict(found)

    try:
        record = json.loads(line.decode(), object_pairs_hook=keep)
    except ValueError as error:
        return "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
    if not isinstance(record, dict):
        return "not an object"
    name, number = record.get("metric_name", ""), record.get("metric_value")
    checks = {
        "repeated key": len(pairs) != len(record),
        "key in another case": any(key != key.lower() for key in record),
        "no device_id": "device_id" not in record,
        "no ts": "ts" not in record,
        "no metric_value": "metric_value" not in record,
        "NUL": "\0" in name,
        "lone surrogate": any("\ud800" <= letter <= "\udfff" for letter in name),
        "null": number is None,
        "text": isinstance(number, str),
        "NaN": isinstance(number, float) and math.isnan(number),
        "infinite": isinstance(number, float) and math.isinf(number),
        "time": record.get("ts") == "yesterday",
    }
    return next((fault for fault, is_so in checks.items() if is_so), "")


def test_garbage_is_garbage_of_every_sort(seed: int) -> None:
    case = make_case("garbage", seed)
    lines = [as_line(case.device, r).removesuffix(b"\n") for r in case.inside()]
    assert all(b"\n" not in line and b"\r" not in line for line in lines)
    faults = Counter(fault(line) for line in lines)
    sound = faults.pop("")
    assert sound / len(lines) == pytest.approx(2 / 3, abs=0.12)
    assert set(faults) == {
        "not UTF-8", "not JSON", "not an object", "repeated key", "key in another case", "no device_id",
        "no ts", "no metric_value", "NUL", "lone surrogate", "null", "text", "NaN", "infinite", "time",
    }  # fmt: skip
    outside = [as_line(case.device, r) for r in case.with_defect if not case.injection.covers(r)]
    assert all(fault(line) == "" for line in outside)
