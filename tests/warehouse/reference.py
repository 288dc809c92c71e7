"""The meanings of design section 8 once more, in plain loops: what the monitoring marts have to say.

Nothing here is shared with the models but the seeds and two of their inputs, patients and prescription
versions, which are taken as the warehouse has them.
"""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path
from statistics import stdev
from typing import Any

from tests.conftest import PROJECT, Warehouse

GAP = timedelta(minutes=15)
ALERT_AFTER = timedelta(minutes=15)
CLOCK_AHEAD = timedelta(minutes=5)
HOUR = timedelta(hours=1)
_NUMBER = re.compile(r"-?[0-9]{1,11}(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?")
_MICRO = Decimal("0.000001")

Series = tuple[str, str, str]
Expected = dict[tuple[object, ...], tuple[object, ...]]


@dataclass
class Reading:
    """One reading: device, metric and unit are its series' key."""

    at: datetime
    value: Decimal
    patient: str | None
    records: int
    version: Any = None
    next_at: datetime | None = None

    @property
    def hour(self) -> datetime:
        return self.at.replace(minute=0, second=0, microsecond=0)

    @property
    def verdict(self) -> str:
        if self.version is None:
            return "no_prescription"
        deviation, tolerance = self.value - self.version.value, self.version.tolerance or 0
        return "above" if deviation > tolerance else "below" if deviation < -tolerance else "in_range"


@dataclass(frozen=True)
class Version:
    """A prescription version, half-open in time."""

    key: str
    prescription: str
    value: Decimal
    tolerance: Decimal | None
    start: datetime
    end: datetime | None


def seed(name: str) -> list[dict[str, str]]:
    with (PROJECT / "seeds" / "clinical" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


METRICS = {row["metric_name"]: row for row in seed("device_metrics")}
CONVERSIONS = {
    (row["metric_name"], row["from_unit"]): (Decimal(row["factor"]), Decimal(row["summand"]))
    for row in seed("unit_conversions")
}


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.strip(" ") and value.isprintable() else None


def _time(value: object) -> datetime | None:
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        return datetime(1970, 1, 1) + timedelta(milliseconds=int(value))
    if not isinstance(value, str) or not re.match(r"[12]\d{3}-\d\d-\d\d[T ]\d\d:\d\d", value):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    if not _NUMBER.fullmatch(str(value)):
        return None
    number = Decimal(str(value)).quantize(_MICRO, ROUND_HALF_UP)
    return number if abs(number) < 10**12 else None


def _records(topics: Path, refused: set[int], loaded_at: datetime) -> Iterator[tuple[Series, datetime, Any]]:
    """Accepted records: series, time, (sequence or -1, offset, value, patient identifier)."""
    lines = (topics / "device.telemetry.jsonl").read_bytes().split(b"\n")[:-1]
    for offset, line in enumerate(lines):
        if offset in refused:
            continue
        record = json.loads(line, parse_float=Decimal)
        device, metric = _text(record.get("device_id")), _text(record.get("metric_name"))
        at, value, sent = (
            _time(record.get("ts")),
            _number(record.get("metric_value")),
            _text(record.get("unit")),
        )
        if device is None or metric is None or at is None or value is None or at > loaded_at + CLOCK_AHEAD:
            continue
        unit = METRICS[metric]["unit"] if metric in METRICS else sent or ""
        if metric in METRICS and sent not in {None, unit}:
            if (metric, sent) not in CONVERSIONS:
                continue
            factor, summand = CONVERSIONS[metric, str(sent)]
            value = (value * factor + summand).quantize(_MICRO, ROUND_HALF_UP)
        sequence = record.get("sequence")
        order = (sequence if isinstance(sequence, int) else -1, offset)
        yield (device, metric, unit), at, (*order, value, _text(record.get("patient_id")))


class Reference:
    """The monitoring marts as they have to be, for a topic directory loaded into a warehouse."""

    def __init__(self, topics: Path, warehouse: Warehouse, loaded_at: datetime) -> None:
        refused = {
            int(offset)
            for (offset,) in warehouse.rows(
                "select _offset from raw_restricted.rejected_records where _topic = 'device.telemetry'"
            )
        }
        patients = dict(
            warehouse.rows(
                "select identifier, patient_key from core.patient_identifiers where authority = 'EHR'"
            )
        )
        versions: dict[tuple[object, ...], list[Version]] = defaultdict(list)
        for patient, device, metric, *rest in warehouse.rows(
            "select patient_key, device_id, metric_name, prescription_version_key, prescription_id, "
            "prescribed_value, tolerance, valid_from, valid_to from core.dim_prescriptions"
        ):
            versions[patient, device, metric].append(Version(*rest))

        told: dict[Series, dict[datetime, list[Any]]] = defaultdict(lambda: defaultdict(list))
        for series, at, record in _records(topics, refused, loaded_at):
            told[series][at].append(record)
        self.series: dict[Series, list[Reading]] = {}
        for series, times in told.items():
            readings = []
            for at in sorted(times):
                _, _, value, identifier = max(times[at], key=lambda record: record[:2])
                patient = patients.get(identifier)
                in_force = [
                    version
                    for version in versions[patient, series[0], series[1]]
                    if version.start <= at and (version.end is None or at < version.end)
                ]
                assert len(in_force) <= 1
                version = in_force[0] if in_force else None
                readings.append(Reading(at, value, patient, len(times[at]), version))
            for reading, following in pairwise(readings):
                reading.next_at = following.at
            self.series[series] = readings
        self.clock = max(readings[-1].at for readings in self.series.values())

    def telemetry_hours(self) -> Expected:
        """(device, patient, metric, unit, hour) → counts and figures."""
        hours: dict[tuple[object, ...], list[Reading]] = defaultdict(list)
        for (device, metric, unit), readings in self.series.items():
            for reading in readings:
                hours[device, reading.patient, metric, unit, reading.hour].append(reading)
        return {
            key: (
                len(readings),
                float(sum(r.value for r in readings)) / len(readings),
                min(r.value for r in readings),
                max(r.value for r in readings),
                stdev(float(r.value) for r in readings) if len(readings) > 1 else None,
                readings[0].value,
                readings[-1].value,
                sum(r.records - 1 for r in readings),
            )
            for key, readings in hours.items()
        }

    def compliance_hours(self) -> Expected:
        """(device, patient, metric, unit, prescription, hour) → readings by verdict and seconds held."""
        hours: dict[tuple[object, ...], list[Reading]] = defaultdict(list)
        for (device, metric, unit), readings in self.series.items():
            for reading in readings:
                prescription = reading.version and reading.version.prescription
                hours[device, reading.patient, metric, unit, prescription, reading.hour].append(reading)
        expected: Expected = {}
        for key, readings in hours.items():
            held = [
                (min(r.next_at or r.hour + HOUR, r.at + GAP, r.hour + HOUR) - r.at).total_seconds()
                for r in readings
            ]
            verdicts = [r.verdict for r in readings]
            in_range = sum(
                seconds for seconds, verdict in zip(held, verdicts, strict=True) if verdict == "in_range"
            )
            compared: tuple[object, ...] = (None, None, None, None)
            if key[4] is not None:
                counts = (verdicts.count(verdict) for verdict in ("in_range", "above", "below"))
                compared = (*counts, in_range)
            expected[key] = (len(readings), sum(held), *compared)
        return expected

    def drift_episodes(self) -> Expected:
        """(device, metric, start) → last reading, end, reason, count, peak, alert."""
        expected: Expected = {}
        for (device, metric, _), readings in self.series.items():
            episode: list[Reading] = []
            for reading in readings:
                if episode and not self._goes_on(episode[-1], reading):
                    expected[device, metric, episode[0].at] = self._ended(episode, reading)
                    episode = []
                if reading.verdict in {"above", "below"}:
                    episode.append(reading)
            if episode:
                expected[device, metric, episode[0].at] = self._ended(episode, None)
        return expected

    @staticmethod
    def _goes_on(last: Reading, reading: Reading) -> bool:
        return (
            reading.at - last.at <= GAP
            and reading.version == last.version
            and reading.verdict in {"above", "below"}
        )

    def _ended(self, episode: list[Reading], following: Reading | None) -> tuple[object, ...]:
        first, last = episode[0], episode[-1]
        if (following.at if following else self.clock) - last.at > GAP:
            reason, ended_at = "gap", last.at
        elif following is None:
            reason, ended_at = None, None
        else:
            reason = "in_range" if following.version == last.version else "prescription_change"
            ended_at = following.at
        peak = max(episode, key=lambda r: abs(r.value - r.version.value))
        alert = next((r.at for r in episode if r.at - first.at > ALERT_AFTER), None)
        return last.at, ended_at, reason, len(episode), peak.value, peak.value - peak.version.value, alert
