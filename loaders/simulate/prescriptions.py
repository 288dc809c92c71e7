"""What is prescribed for each device, how it changes, and what the device is set to meanwhile.

Most prescriptions stand unchanged. The others each go through one course of ``COURSES``, which asks one
question of whoever works out the prescription in force.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loaders.simulate.config import Config
from loaders.simulate.debezium import Change, Row
from loaders.simulate.hospital import METRICS, Device, Metric
from loaders.simulate.times import DAY, HOUR, MINUTE

TOLERANCES: dict[Metric, float | None] = {"Pressure": 1.0, "FlowRate": 0.5, "FlowLevel": 50.0}
SNAPSHOT_BEFORE_START = 2 * HOUR
PRESCRIPTION_IDS_AT = 7000

Targets = Mapping[Metric, float]


@dataclass
class Course:
    """The changes of one device's prescriptions, and its own settings from each time on (ms)."""

    changes: list[Change]
    setpoints: list[tuple[int, Targets]] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """A device with its usual prescription and the time of the snapshot and of the change (ms).

    ``window`` is the length of the simulation (ms).
    """

    device: Device
    row: Row
    snapshot_at: int
    changed_at: int
    window: int

    @property
    def snapshot(self) -> Change:
        """The prescription as the connector's first snapshot found it."""
        return created_by_snapshot(self.row, self.snapshot_at)


def parameters(targets: Targets, tolerances: Mapping[Metric, float | None] = TOLERANCES) -> str:
    """The JSON text of a prescription's parameters; tolerances are absolute, in the metric's unit."""
    return json.dumps(
        [
            {
                "parameter_name": metric,
                "parameter_value": targets[metric],
                "parameter_type": "float",
                "parameter_tolerance": tolerances[metric],
            }
            for metric in METRICS
        ]
    )


def created_by_snapshot(row: Row, at: int) -> Change:
    """A row that a snapshot has read."""
    return Change(at, "prescriptions", "r", None, row)


def updated(before: Row, at: int, **columns: Any) -> Change:
    """A row some columns of which were changed; the row before it is sent whole."""
    return Change(at, "prescriptions", "u", before, {**before, **columns})


def prescribed(device: Device) -> Targets:
    """What is prescribed at first: what the device is set to; for every sixth the level differs a little."""
    level = device.settings["FlowLevel"] + (10.0 if device.row_id % 6 == 0 else 0.0)
    return {**device.settings, "FlowLevel": level}


def unchanged(case: Case) -> Course:
    """The prescription stands from before the start, with no end."""
    return Course([case.snapshot])


def no_prescription(_: Case) -> Course:
    """The device runs without a prescription."""
    return Course([])


def unreadable(case: Case) -> Course:
    """The parameters are overwritten with text that is cut off."""
    cut = case.row["parameters"][:57]
    return Course([case.snapshot, updated(case.row, case.changed_at, parameters=cut)])


def deleted(case: Case) -> Course:
    """The prescription is deleted; the event carries the key alone."""
    return Course(
        [case.snapshot, Change(case.changed_at, "prescriptions", "d", {"id": case.row["id"]}, None)]
    )


def ended(case: Case) -> Course:
    """The prescription is given an end; a new one follows after a pause of a sixteenth of the window."""
    end = case.changed_at + case.window // 96
    following = {
        **case.row,
        "id": case.row["id"] + 1,
        "prescription_id": case.row["prescription_id"] + "-B",
        "start_date": end + case.window // 16,
    }
    return Course(
        [
            case.snapshot,
            updated(case.row, case.changed_at, end_date=end),
            Change(end + case.window // 48, "prescriptions", "c", None, following),
        ]
    )


def target_changed(case: Case) -> Course:
    """One cmH2O more is prescribed, and the device is set to it a minute later."""
    higher = {**prescribed(case.device), "Pressure": round(case.device.settings["Pressure"] + 1.0, 1)}
    return Course(
        [case.snapshot, updated(case.row, case.changed_at, parameters=parameters(higher))],
        [(case.changed_at + MINUTE, {**case.device.settings, "Pressure": higher["Pressure"]})],
    )


def tolerance_changed(case: Case) -> Course:
    """The tolerance of Pressure is narrowed; the other parameters stay as they were."""
    narrower = parameters(prescribed(case.device), {**TOLERANCES, "Pressure": 0.8})
    return Course([case.snapshot, updated(case.row, case.changed_at, parameters=narrower)])


def null_tolerance(case: Case) -> Course:
    """The tolerance of FlowLevel is left out by mistake, which is put right after ten minutes."""
    missing = updated(
        case.row,
        case.changed_at,
        parameters=parameters(prescribed(case.device), {**TOLERANCES, "FlowLevel": None}),
    )
    assert missing.after is not None
    mended = updated(missing.after, case.changed_at + 10 * MINUTE, parameters=case.row["parameters"])
    return Course([case.snapshot, missing, mended])


def overlapping(case: Case) -> Course:
    """A later prescription of 2 cmH2O less covers the same device; the device follows the later one."""
    lower = {**prescribed(case.device), "Pressure": round(case.device.settings["Pressure"] - 2.0, 1)}
    later = {
        **case.row,
        "id": case.row["id"] + 1,
        "prescription_id": case.row["prescription_id"] + "-B",
        "start_date": case.row["start_date"] + 5 * DAY,
        "parameters": parameters(lower),
    }
    return Course(
        [case.snapshot, created_by_snapshot(later, case.snapshot_at)],
        [(0, {**case.device.settings, "Pressure": lower["Pressure"]})],
    )


def snapshot_repeated(case: Case) -> Course:
    """The connector takes its snapshot again and finds the same."""
    return Course([case.snapshot, created_by_snapshot(case.row, case.changed_at)])


def redelivered(case: Case) -> Course:
    """A change is followed by a second, and then the first comes once more."""
    first = updated(
        case.row,
        case.changed_at,
        parameters=parameters(prescribed(case.device), {**TOLERANCES, "FlowLevel": 45.0}),
    )
    assert first.after is not None
    second = updated(first.after, case.changed_at + 20 * MINUTE, parameters=case.row["parameters"])
    return Course([case.snapshot, replace(first, delivered_again_at=second.at + MINUTE), second])


COURSES: dict[str, Callable[[Case], Course]] = {
    course.__name__: course
    for course in (
        target_changed, ended, deleted, overlapping, tolerance_changed, null_tolerance, unreadable,
        no_prescription, snapshot_repeated, redelivered,
    )
}  # fmt: skip

UNSEEN_BY_THE_DEVICE = ("snapshot_repeated", "redelivered")
"""Courses that leave the prescription in force as it was, so that a device with a defect may have them."""


def follow_course(config: Config, device: Device, name: str | None) -> Course:
    """The changes of a device's prescriptions, by the name of its course (None: unchanged)."""
    rng = config.random("prescription", device.device_id)
    window = config.ends_at - config.starts_at
    row: Row = {
        "id": PRESCRIPTION_IDS_AT + 10 * device.row_id,
        "prescription_id": f"RX-{device.row_id:05d}",
        "patient_id": device.patient.record_number,
        "device_id": device.device_id,
        "medication_or_therapy": "Non-invasive ventilation",
        "start_date": config.starts_at - rng.randrange(10, 60) * DAY,
        "end_date": None,
        "parameters": parameters(prescribed(device)),
    }
    # Between a third and a half of the window, to the second.
    changed_at = config.starts_at + int(window * rng.uniform(0.33, 0.5)) // 1000 * 1000
    case = Case(device, row, config.starts_at - SNAPSHOT_BEFORE_START, changed_at, window)
    course = COURSES[name](case) if name else unchanged(case)
    return Course(course.changes, [(0, device.settings), *course.setpoints])
