"""What is prescribed, as the change log says it, and whether sound devices keep to it."""

import json
from collections import Counter
from itertools import groupby
from typing import Any

import pytest

from loaders.simulate.config import Config
from loaders.simulate.debezium import envelopes
from loaders.simulate.hospital import METRICS
from loaders.simulate.prescriptions import COURSES, UNSEEN_BY_THE_DEVICE
from loaders.simulate.registry import registry_changes
from loaders.simulate.scenario import Scenario, plan
from loaders.simulate.stream import device_readings
from loaders.simulate.times import MINUTE

PRESCRIPTIONS = "healthcare.public.prescriptions"
Events = list[dict[str, Any]]


def lines(scenario: Scenario, topic: str) -> list[bytes]:
    changes = registry_changes(scenario.config, scenario.devices, scenario.courses)
    changes += [change for course in scenario.courses for change in course.changes]
    return [record.value or b"null" for record in envelopes(changes) if record.topic == topic]


def events(scenario: Scenario, topic: str = PRESCRIPTIONS) -> Events:
    values = [json.loads(line) for line in lines(scenario, topic)]
    return [value.get("payload", value) for value in values if value is not None]


class InForce:
    """The settings in force by the design's words, read from the log alone, one instant at a time."""

    def __init__(self, log: Events, device_id: str) -> None:
        self.versions: dict[int, Events] = {}
        seen = set()
        for event in sorted(log, key=lambda event: (event["source"]["ts_ms"], event["source"]["lsn"])):
            row_id = (event["after"] or event["before"])["id"]
            identity = (row_id, event["source"]["lsn"], event["op"])
            if identity not in seen:
                seen.add(identity)
                self.versions.setdefault(row_id, []).append(event)
        self.versions = {
            row_id: versions
            for row_id, versions in self.versions.items()
            if any(version["after"] and version["after"]["device_id"] == device_id for version in versions)
        }

    def at(self, ms: int, metric: str) -> tuple[float, float | None] | None:
        """Target and tolerance, or None where nothing is prescribed."""
        candidates = []
        for row_id, versions in self.versions.items():
            known = [version for version in versions if version["source"]["ts_ms"] <= ms]
            row = (known or versions)[-1 if known else 0]["after"]
            if row is None or not row["start_date"] <= ms < (row["end_date"] or 1 << 62):
                continue
            try:
                settings = {one["parameter_name"]: one for one in json.loads(row["parameters"])}
            except ValueError:
                continue
            setting = settings[metric]
            target = setting["parameter_value"], setting["parameter_tolerance"]
            candidates.append((row["start_date"], row_id, target))
        return max(candidates)[2] if candidates else None


def device_with(course: str, seed: int = 4) -> tuple[Scenario, int]:
    scenario = plan(Config(seed, 20, 48, defects=()))
    return scenario, scenario.course_names.index(course)


def compliance(scenario: Scenario, index: int) -> tuple[dict[str, float], float, int]:
    """By metric the share of prescribed readings in range, the longest time out of it (min), and how many
    readings are under no prescription.
    """
    log = events(scenario)
    in_force = InForce(log, scenario.devices[index].device_id)
    edges = sorted(
        {event["source"]["ts_ms"] for event in log}
        | {
            time
            for event in log
            if event["after"]
            for time in (event["after"]["start_date"], event["after"]["end_date"] or 0)
        }
    )
    readings = list(device_readings(scenario, index))
    shares: dict[str, float] = {}
    longest, without = 0.0, 0
    for metric in METRICS:
        marks: list[tuple[int, bool]] = []
        setting, edge = in_force.at(readings[0].at, metric), 0
        for reading in (reading for reading in readings if reading.metric == metric):
            if edge < len(edges) and reading.at >= edges[edge]:
                while edge < len(edges) and reading.at >= edges[edge]:
                    edge += 1
                setting = in_force.at(reading.at, metric)
            if setting is None:
                without += 1
            else:
                marks.append((reading.at, abs(reading.value - setting[0]) <= (setting[1] or 0.0)))
        if marks:
            shares[metric] = sum(in_range for _, in_range in marks) / len(marks)
        for in_range, run in groupby(marks, key=lambda mark: mark[1]):
            if not in_range:
                times = [at for at, _ in run]
                longest = max(longest, (times[-1] - times[0]) / MINUTE)
    return shares, longest, without


@pytest.mark.parametrize("seed", range(6))
def test_devices_without_defect_comply_and_never_stray_for_long(seed: int) -> None:
    scenario = plan(Config(seed, 20, 48, defects=()))
    assert set(scenario.course_names) >= set(COURSES)
    for index, course in enumerate(scenario.course_names):
        shares, longest, without = compliance(scenario, index)
        has_gap = course in ("no_prescription", "unreadable", "deleted", "ended")
        assert (without > 0) == has_gap, course
        assert all(share > 0.97 for share in shares.values()), (course, shares)
        assert longest < 15, course
        assert bool(shares) == (course != "no_prescription")


def test_the_measure_of_compliance_sees_a_defect() -> None:
    scenario = plan(Config(1, 1, 48, defects=(("flow_level_falling", "DEV-0001"),)))
    shares, longest, _ = compliance(scenario, 0)
    assert longest > 15
    assert shares["FlowLevel"] < min(shares["Pressure"], shares["FlowRate"])


def test_the_device_follows_a_changed_target_and_the_later_of_two_prescriptions() -> None:
    for course, change in (("target_changed", 1.0), ("overlapping", -2.0)):
        scenario, index = device_with(course)
        device = scenario.devices[index]
        end = scenario.config.ends_at - 1
        setting = InForce(events(scenario), device.device_id).at(end, "Pressure")
        assert setting is not None
        assert setting[0] == pytest.approx(device.settings["Pressure"] + change)
        rows = [event["after"] for event in events(scenario, "healthcare.public.devices") if event["after"]]
        last = [row for row in rows if row["device_id"] == device.device_id][-1]
        assert last["pressure_setting"] == setting[0]


def test_a_null_tolerance_lasts_ten_minutes() -> None:
    scenario, index = device_with("null_tolerance")
    in_force = InForce(events(scenario), scenario.devices[index].device_id)
    config = scenario.config
    without = [
        at
        for at in range(config.starts_at, config.ends_at, MINUTE)
        if (setting := in_force.at(at, "FlowLevel")) and setting[1] is None
    ]
    assert len(without) == 10


def course_events(course: str) -> tuple[Scenario, Events]:
    scenario, index = device_with(course)
    row_id = scenario.courses[index].changes[0].after
    assert row_id is not None
    return scenario, [
        event
        for event in events(scenario)
        if (event["after"] or event["before"])["id"] // 10 == row_id["id"] // 10
    ]


def test_a_repeated_snapshot_says_the_same_again() -> None:
    _, (first, again) = course_events("snapshot_repeated")
    assert first["op"] == again["op"] == "r"
    assert first["after"] == again["after"]
    assert first["source"]["lsn"] < again["source"]["lsn"]


def test_a_redelivery_comes_after_the_change_that_followed() -> None:
    _, (_, first, second, again) = course_events("redelivered")
    assert first["source"] == again["source"]
    assert first["after"] == again["after"]
    assert first["source"]["lsn"] < second["source"]["lsn"]


def test_a_delete_carries_the_key_alone_and_a_tombstone_follows() -> None:
    scenario, (_, delete) = course_events("deleted")
    assert delete["op"] == "d"
    assert delete["after"] is None
    assert list(delete["before"]) == ["id"]
    written = lines(scenario, PRESCRIPTIONS)
    position = next(n for n, line in enumerate(written) if b'"op":"d"' in line)
    assert written[position + 1] == b"null"
    assert written.count(b"null") == 1


def test_unreadable_parameters_are_unreadable() -> None:
    _, (_, cut) = course_events("unreadable")
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(cut["after"]["parameters"])


def test_some_envelopes_are_wrapped_and_all_have_their_parts() -> None:
    scenario = plan(Config(2, 20, 48))
    wrapped = 0
    for topic in ("patients", "devices", "prescriptions"):
        for value in map(json.loads, lines(scenario, f"healthcare.public.{topic}")):
            if value is None:
                continue
            wrapped += "payload" in value
            envelope = value.get("payload", value)
            assert envelope["op"] in "rcud"
            assert {"ts_ms", "lsn", "db", "schema", "table"} <= envelope["source"].keys()
            assert envelope["source"]["table"] == topic
            assert envelope["ts_ms"] >= envelope["source"]["ts_ms"]
    assert 3 < wrapped < 20


def test_log_positions_rise_with_time_and_repeat_only_for_redeliveries() -> None:
    scenario = plan(Config(2, 20, 48))
    log = [
        event
        for topic in ("patients", "devices", "prescriptions")
        for event in events(scenario, f"healthcare.public.{topic}")
    ]
    positions = sorted(
        {(event["source"]["ts_ms"], event["source"]["lsn"]) for event in log if event["op"] != "r"}
    )
    assert [lsn for _, lsn in positions] == sorted({lsn for _, lsn in positions})
    repeats = Counter(event["source"]["lsn"] for event in log if event["op"] != "r")
    assert sorted(repeats.values())[-2:] == [1, 2]


def test_courses_that_matter_fall_to_devices_without_defect() -> None:
    for seed in range(10):
        scenario = plan(Config(seed))
        faulty = {injection.device.device_id for injection in scenario.injections}
        names = scenario.course_names
        assert sorted(filter(None, names)) == sorted(COURSES)
        for device, name in zip(scenario.devices, names, strict=True):
            if name is not None and name not in UNSEEN_BY_THE_DEVICE:
                assert device.device_id not in faulty
                assert device.sent_patient_id == device.patient.record_number


def test_one_device_sends_the_number_of_a_second_registration() -> None:
    scenario = plan(Config(6))
    odd = [device for device in scenario.devices if device.sent_patient_id != device.patient.record_number]
    assert [scenario.devices.index(device) for device in odd] == [scenario.registered_twice]
    registered = {event["after"]["patient_id"] for event in events(scenario, "healthcare.public.patients")}
    assert odd[0].sent_patient_id not in registered
    assert odd[0].patient.record_number in registered
