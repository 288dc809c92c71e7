"""The meanings of the monitoring marts once more, in plain loops.

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
from itertools import chain, pairwise
from pathlib import Path
from statistics import stdev
from typing import Any, NamedTuple

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


class Told(NamedTuple):
    """What one record says of a reading; a removal has no value.

    Of those that came the same way the greatest order counts, preliminary ones apart; of the two ways, which
    one arrived last (as the project loads them: all at once, so that only topic, offset and segment tell).
    """

    order: tuple[datetime, int, int, int, int]
    arrival: tuple[str, int, int]
    value: Decimal | None
    patient: tuple[str, str | None]
    is_preliminary: bool = False
    place: str | None = None


def _last_word(told: list[Told]) -> Told:
    """A final stands until it is removed, a preliminary one only where none stands; else the removal."""
    removals = [one for one in told if one.value is None]
    removed = max((one.order for one in removals), default=None)
    standing = [one for one in told if one.value is not None and (removed is None or one.order > removed)]
    finals = [one for one in standing if not one.is_preliminary]
    return max(finals or standing or removals, key=lambda one: one.order)


def _accepted(told: list[Told]) -> list[Told]:
    """All but HL7's measurements where two of its places disagree, or two values of one message."""
    hl7 = [one for one in told if one.place is not None and one.value is not None]
    is_refused = any(
        one.value != other.value and (one.place != other.place or one.arrival[:2] == other.arrival[:2])
        for one in hl7
        for other in hl7
    )
    return [one for one in told if one not in hl7] if is_refused else told


def seed(name: str, folder: str = "clinical") -> list[dict[str, str]]:
    with (PROJECT / "seeds" / folder / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


METRICS = {row["metric_name"]: row for row in seed("device_metrics")}
CONVERSIONS = {
    (row["metric_name"], row["from_unit"]): (Decimal(row["factor"]), Decimal(row["summand"]))
    for row in seed("unit_conversions")
}

STATUSES = {row["status"]: row for row in seed("observation_statuses", "terminology")}
MDC_METRICS = {row["reference_id"]: row["metric_name"] for row in seed("mdc_metrics", "terminology")}
MDC_UNITS = {row["reference_id"]: row["unit"] for row in seed("mdc_units", "terminology")}


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


def _in_own_unit(metric: str, value: Decimal, sent: str | None) -> tuple[Decimal, str] | None:
    """A value in the unit in which its metric is kept, and that unit; None for a unit that nobody knows."""
    if metric not in METRICS:
        return value, sent or ""
    unit = METRICS[metric]["unit"]
    if sent in {None, unit}:
        return value, unit
    if (metric, sent) not in CONVERSIONS:
        return None
    factor, summand = CONVERSIONS[metric, str(sent)]
    return (value * factor + summand).quantize(_MICRO, ROUND_HALF_UP), unit


def _json_records(
    topics: Path, refused: set[int], loaded_at: datetime
) -> Iterator[tuple[Series, datetime, Told]]:
    """Accepted records of the telemetry topic: series, time, what is told."""
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
        kept = _in_own_unit(metric, value, sent)
        if kept is None:
            continue
        sequence = record.get("sequence")
        order = (datetime.min, sequence if isinstance(sequence, int) else -1, 0, offset, 0)
        patient = ("EHR", _text(record.get("patient_id")))
        yield (device, metric, kept[1]), at, Told(order, ("device.telemetry", offset, 0), kept[0], patient)


def _hl7_time(text: str | None) -> datetime | None:
    """A time with seconds: all that device observations here have."""
    match = re.fullmatch(r"(\d{14})([.]\d+)?([+-]\d{4})?", text or "")
    if not match:
        return None
    digits, fraction, offset = match.groups()
    moment = datetime.strptime(digits, "%Y%m%d%H%M%S") + timedelta(seconds=float(fraction or 0))
    if offset:
        moment -= timedelta(hours=int(offset[:3]), minutes=int(offset[0] + offset[3:]))
    return moment


def _hl7_number(value_type: str | None, fields: dict[str, Any]) -> Decimal | None:
    """The number of an NM or SN, where nothing stands beside it."""
    match fields.get("5"), value_type:
        case [{"1": value, **rest}], "NM" if not rest:
            return _number(value)
        case [{"2": value, **rest}], "SN" if rest in ({}, {"1": "="}):
            return _number(value)
        case _:
            return None


def _hl7_records(topics: Path, loaded_at: datetime) -> Iterator[tuple[Series, datetime, Told]]:
    """Device observations (IHE PCD-01) of the messages' topic: series, time, what is told.

    As far as the examples and simulated feeds go: MDC named in either triple of OBX-3 by its reference id,
    a device in OBX-18 of the OBX or of what contains it, an identifier with its authority in PID-3.
    """
    lines = (topics / "hl7.messages.jsonl").read_bytes().split(b"\n")[:-1]
    seen: set[str] = set()
    for offset, line in enumerate(lines):
        message = json.loads(line)
        meta = message["meta"]
        if meta["sha256"] in seen or (meta["message_type"], meta["trigger_event"]) != ("ORU", "R01"):
            continue
        seen.add(meta["sha256"])
        patient: tuple[str, str | None] = ("", None)
        sent_at, sequence = _hl7_time(meta["message_at"]) or datetime.min, -1
        order_time: str | None = None
        devices: dict[str, str] = {}
        for segment in message["segments"]:
            fields = segment["fields"]

            def first(number: int, component: str = "1", fields: Any = fields) -> str | None:
                value = fields.get(str(number), [{}])[0].get(component)
                return value if isinstance(value, str) else None

            match segment["id"]:
                case "MSH":
                    sequence = int(first(13) or -1)
                case "PID":
                    patient = (first(3, "4") or meta["sending_facility"], first(3))
                case "OBR":
                    order_time, devices = first(7), {}
                case "OBX":
                    name = next(
                        (
                            first(3, text)
                            for text, system in (("2", "3"), ("5", "6"))
                            if first(3, system) == "MDC"
                        ),
                        None,
                    )
                    if name is None:
                        continue
                    place = re.sub(r"([.]0+)+$", "", first(4) or "")
                    device = first(18) or next(
                        (
                            devices[whole]
                            for whole in sorted(devices, key=len, reverse=True)
                            if place.startswith(whole + ".")
                        ),
                        None,
                    )
                    if first(18):
                        devices[place] = str(first(18))
                    at = _hl7_time(first(14)) or _hl7_time(order_time)
                    value = _hl7_number(first(2), fields)
                    status = STATUSES[first(11) or "F"]
                    is_removal = status["effect"] == "remove"
                    if device is None or at is None or at > loaded_at + CLOCK_AHEAD:
                        continue
                    if status["effect"] == "none" or (value is None and not is_removal):
                        continue
                    metric = MDC_METRICS.get(name, name)
                    sent = MDC_UNITS.get(first(6, "2") or "", first(6))
                    kept = _in_own_unit(metric, value or Decimal(0), sent)
                    if kept is None:
                        continue
                    told = Told(
                        (sent_at, sequence, int(status["status_rank"]), offset, segment["n"]),
                        ("hl7.messages", offset, segment["n"]),
                        None if is_removal else kept[0],
                        patient,
                        status["effect"] == "preliminary",
                        place,
                    )
                    yield (device, metric, kept[1]), at, told


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
            warehouse.rows("select authority || '|' || identifier, patient_key from core.patient_identifiers")
        )
        versions: dict[tuple[object, ...], list[Version]] = defaultdict(list)
        for patient, device, metric, *rest in warehouse.rows(
            "select patient_key, device_id, metric_name, prescription_version_key, prescription_id, "
            "prescribed_value, tolerance, valid_from, valid_to from core.dim_prescriptions"
        ):
            versions[patient, device, metric].append(Version(*rest))

        told: dict[Series, dict[datetime, list[Told]]] = defaultdict(lambda: defaultdict(list))
        for series, at, record in chain(
            _json_records(topics, refused, loaded_at), _hl7_records(topics, loaded_at)
        ):
            told[series][at].append(record)
        self.series: dict[Series, list[Reading]] = {}
        for series, times in told.items():
            readings = []
            for at in sorted(times):
                accepted = _accepted(times[at])
                if not accepted:
                    continue
                ways = defaultdict(list)
                for record in accepted:
                    ways[record.arrival[0]].append(record)
                last = max(map(_last_word, ways.values()), key=lambda record: record.arrival)
                if last.value is None:
                    continue
                patient = patients.get("|".join(map(str, last.patient)))
                in_force = [
                    version
                    for version in versions[patient, series[0], series[1]]
                    if version.start <= at and (version.end is None or at < version.end)
                ]
                assert len(in_force) <= 1
                version = in_force[0] if in_force else None
                records = sum(record.value is not None for record in accepted)
                readings.append(Reading(at, last.value, patient, records, version))
            for reading, following in pairwise(readings):
                reading.next_at = following.at
            if readings:
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
