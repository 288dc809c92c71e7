"""Each bad record is refused alone, at the gate that the design names, and its neighbours become facts."""

import json
from pathlib import Path

from tests.conftest import Warehouse
from tests.warehouse.hospital import LOADED_AT, Runner

GOOD = {
    "device_id": "D1",
    "patient_id": "P1",
    "metric_name": "Pressure",
    "metric_value": 10.5,
    "unit": "cmH2O",
}
_TS = "2026-01-05T{:02d}:{:02d}:00Z"


def line(number: int, **changes: object) -> bytes:
    """The good reading of a minute, changed; a field changed to None is left out."""
    record = GOOD | {"ts": _TS.format(number // 60, number % 60)} | changes
    return json.dumps({name: value for name, value in record.items() if value is not None}).encode()


def raw(number: int, value: bytes) -> bytes:
    """The good reading of a minute with its value written as given."""
    return line(number).replace(b"10.5", value)


BAD: list[tuple[str, str, bytes]] = [
    ("transport", "E_NOT_JSON", b"pressure was fine"),
    ("transport", "E_NOT_JSON", b""),
    ("transport", "E_NOT_JSON", line(1)[:-1]),
    ("transport", "E_NOT_JSON", raw(1, b"NaN")),
    ("transport", "E_NOT_JSON", raw(1, b"-Infinity")),
    ("transport", "E_NOT_OBJECT", b"[1, 2]"),
    ("transport", "E_NOT_OBJECT", b'"reading"'),
    ("transport", "E_NUL_ESCAPE", raw(1, b'"1\\u00000"')),
    ("transport", "E_LONE_SURROGATE", raw(1, b'"\\ud800"')),
    ("transport", "E_NOT_UTF8", raw(1, b'"\xff"')),
    ("transport", "E_REPEATED_KEY", line(1).replace(b"{", b'{"device_id": "D2", ')),
    ("transport", "E_KEY_CASE", line(1).replace(b"metric_value", b"Metric_Value")),
    ("transport", "E_NUMBER", raw(1, b"0.1234567890123456789")),
    ("transport", "E_STRING_TOO_LONG", raw(1, b'"' + b"9" * 65_536 + b'"')),
    ("transport", "E_TOO_LARGE", raw(1, b'"' + b"9" * 20_000_000 + b'"')),
    ("meaning", "no_device", line(1, device_id=None)),
    ("meaning", "no_device", line(1, device_id="  ")),
    ("meaning", "no_device", line(1, device_id={"id": "D1"})),
    ("meaning", "no_metric", line(1, metric_name=None)),
    ("meaning", "no_time", line(1, ts=None)),
    ("meaning", "unreadable_time", line(1, ts="yesterday")),
    ("meaning", "unreadable_time", line(1, ts="2026-02-30T00:00:00Z")),
    ("meaning", "no_value", line(1, metric_value=None)),
    ("meaning", "no_number", line(1, metric_value="high")),
    ("meaning", "no_number", line(1, metric_value="NaN")),
    ("meaning", "no_number", line(1, metric_value=True)),
    ("meaning", "no_number", line(1, metric_value="1e12")),
    ("meaning", "unknown_unit", line(1, unit="bananas")),
    ("meaning", "clock_ahead", line(1, ts="2026-01-05T12:05:01Z")),
]


def test_each_bad_record_is_refused_alone(tmp_path: Path, profiles_dir: Path, warehouse: Warehouse) -> None:
    runner = Runner(tmp_path, profiles_dir, {**warehouse.env, "CDW_TARGET": warehouse.target})
    topics = tmp_path / "topics"
    topics.mkdir()
    lines = []
    for number, (_, _, bad) in enumerate(BAD):
        lines += [line(number), bad]
    lines += [line(len(BAD)), b"null"]
    (topics / "device.telemetry.jsonl").write_bytes(b"".join(one + b"\n" for one in lines))

    runner.load(topics, LOADED_AT)
    runner.dbt("build", "--exclude-resource-type", "unit_test")

    expected: dict[tuple[str, str], int] = {}
    for gate, reason, _ in BAD:
        expected[gate, reason] = expected.get((gate, reason), 0) + 1
    found = warehouse.rows("select gate, reason, record_count from operations.rejects")
    assert {(gate, reason): count for gate, reason, count in found} == expected

    offsets = warehouse.rows(
        "select reason, _offset, bytes from raw_restricted.rejected_records order by _offset"
    )
    refused = [(reason, 2 * n + 1, bad) for n, (gate, reason, bad) in enumerate(BAD) if gate == "transport"]
    assert [(reason, offset, bytes(value)) for reason, offset, value in offsets] == refused

    readings = warehouse.rows("select sum(reading_count) from monitoring.fact_telemetry_1h")
    assert readings == [(len(BAD) + 1,)]
