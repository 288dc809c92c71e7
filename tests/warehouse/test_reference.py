"""The monitoring marts, row for row, against the same meanings in plain loops."""

import math
from datetime import datetime
from decimal import Decimal

import pytest

from tests.warehouse.conftest import Built, Hospital
from tests.warehouse.hospital import LOADED_AT
from tests.warehouse.reference import Expected, Reference


@pytest.fixture(scope="module")
def reference(hospital: Hospital) -> Reference:
    loaded_at = datetime.fromisoformat(LOADED_AT).replace(tzinfo=None)
    return Reference(hospital.topics, hospital.duckdb.warehouse, loaded_at)


def check(built: Built, sql: str, keys: int, expected: Expected) -> None:
    found = {row[:keys]: row[keys:] for row in built.warehouse.rows(sql)}
    assert len(expected) > 100
    assert found.keys() == expected.keys()
    wrong = [key for key, row in found.items() if not all(map(_equal, row, expected[key]))]
    assert len(wrong) == 0, f"{len(wrong)} of {len(found)} rows"


def _equal(found: object, expected: object) -> bool:
    if isinstance(found, float | Decimal) and isinstance(expected, float | Decimal):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
    return found == expected


def test_telemetry_hours(built: Built, reference: Reference) -> None:
    sql = """
        select device_id, patient_key, metric_name, unit, window_start, reading_count, avg_value, min_value,
            max_value, stddev_value, first_value, last_value, duplicate_count
        from monitoring.fact_telemetry_1h
    """
    check(built, sql, 5, reference.telemetry_hours())


def test_compliance_hours(built: Built, reference: Reference) -> None:
    sql = """
        select device_id, patient_key, metric_name, unit, prescription_id, window_start, readings_total,
            held_seconds, readings_in_range, readings_above, readings_below, in_range_seconds
        from monitoring.fact_compliance_1h
    """
    check(built, sql, 6, reference.compliance_hours())


def test_drift_episodes(built: Built, reference: Reference) -> None:
    sql = """
        select device_id, metric_name, started_at, last_reading_at, ended_at, end_reason, reading_count,
            peak_value, peak_deviation, alert_raised_at
        from monitoring.fact_drift_events
    """
    expected = reference.drift_episodes()
    check(built, sql, 3, expected)
    assert {row[2] for row in expected.values()} >= {"in_range"}
    assert any(row[-1] for row in expected.values())
