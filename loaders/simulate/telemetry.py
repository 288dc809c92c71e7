"""Readings of a breathing device in order, healthy until a defect is laid over them."""

import math
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from loaders.simulate.config import READING_INTERVAL_SECONDS, Config
from loaders.simulate.hospital import METRICS, UNITS, Device, Metric
from loaders.simulate.prescriptions import Course
from loaders.simulate.times import HOUR, MINUTE, SECOND, iso

# metric: (white noise, slow drift) as standard deviations. Together a third of the usual tolerance, so
# that a healthy device strays for a reading, never for minutes; the drift of FlowRate is small enough
# that its hourly means stay within the 5 % by which a clogged filter is told.
NOISE: dict[Metric, tuple[float, float]] = {
    "Pressure": (0.30, 0.12),
    "FlowRate": (0.13, 0.02),
    "FlowLevel": (13.0, 5.0),
}
DECIMALS: dict[Metric, int] = {"Pressure": 2, "FlowRate": 3, "FlowLevel": 1}
DRIFT_TIME_CONSTANT_MS = 30 * MINUTE


class Reading(NamedTuple):
    """One record of a device.

    ``at`` is when it was truly measured, ``stamped_at`` what the device's clock said, ``arrived_at`` when
    the record came in (all in ms). ``line`` is the record as sent where it is not what the rest says.
    """

    at: int
    stamped_at: int
    arrived_at: int
    metric: Metric
    value: float
    unit: str | None
    sequence: int | None
    line: bytes | None = None


def healthy_readings(config: Config, device: Device, course: Course) -> Iterator[Reading]:
    """One reading of each metric every 30 seconds around what the device is set to at that time."""
    rng = config.random("telemetry", device.device_id)
    gauss = rng.gauss
    step = READING_INTERVAL_SECONDS * SECOND
    keep = math.exp(-step / DRIFT_TIME_CONSTANT_MS)
    fresh = math.sqrt(1 - keep * keep)
    drift = dict.fromkeys(METRICS, 0.0)
    units = UNITS if device.model.sends_unit else dict.fromkeys(METRICS)
    changed_at = [at for at, _ in course.setpoints]
    sequence = 0
    for at in range(config.starts_at + device.phase_ms, config.ends_at, step):
        settings = course.setpoints[bisect_right(changed_at, at) - 1][1]
        for metric in METRICS:
            white, slow = NOISE[metric]
            drift[metric] = keep * drift[metric] + gauss(0.0, slow * fresh)
            value = round(settings[metric] + drift[metric] + gauss(0.0, white), DECIMALS[metric])
            sequence += 1
            yield Reading(
                at, at, at + device.delay_ms, metric, value, units[metric],
                sequence if device.model.sends_sequence else None,
            )  # fmt: skip


def timestamp_json(device: Device, ms: int) -> str:
    """A time as this model writes it, as JSON."""
    match device.model.clock:
        case "epoch_milliseconds":
            return str(ms)
        case "iso":
            return f'"{iso(ms)}Z"'
        case "iso_milliseconds":
            return f'"{iso(ms)}.{ms % SECOND:03d}Z"'
        case "iso_offset":
            # The same instant as a clock an hour east of UTC shows it.
            return f'"{iso(ms + HOUR)}+01:00"'


def as_line(device: Device, reading: Reading) -> bytes:
    """The record as one line of JSON with its line feed."""
    if reading.line is not None:
        return reading.line + b"\n"
    unit = "" if reading.unit is None else f',"unit":"{reading.unit}"'
    version = (
        f',"software_version":"{device.model.software_version}"'
        if device.model.sends_software_version
        else ""
    )
    sequence = "" if reading.sequence is None else f',"sequence":{reading.sequence}'
    return (
        f'{{"device_id":"{device.device_id}","patient_id":"{device.sent_patient_id}",'
        f'"ts":{timestamp_json(device, reading.stamped_at)},"metric_name":"{reading.metric}",'
        f'"metric_value":{reading.value!r}{unit}{version}{sequence}}}\n'
    ).encode()
