"""The whole way on both warehouses: load, build twice, compare, and lose something to see it noticed."""

from pathlib import Path

import pytest

from tests.warehouse.conftest import Built, Hospital
from tests.warehouse.hospital import Runner, copy_of_the_project
from tests.warehouse.parity import differences, read_marts

EXPECTED_MARTS = {
    "core.dim_devices",
    "core.dim_patients",
    "core.dim_prescriptions",
    "core.fact_encounters",
    "core.fact_observations",
    "core.patient_identifiers",
    "monitoring.fact_compliance_1h",
    "monitoring.fact_drift_events",
    "monitoring.fact_telemetry_1h",
    "operations.reconciliation",
    "operations.rejects",
    "vitals.fact_vitals_1h",
}


def test_every_mart_is_there_and_has_rows(built: Built) -> None:
    marts = read_marts(built.warehouse)
    assert marts.keys() == EXPECTED_MARTS
    assert [name for name, mart in marts.items() if not mart.rows] == []


def test_second_build_of_the_same_data_changes_nothing(built: Built) -> None:
    before = read_marts(built.warehouse)
    # Unit tests ran in the first build; the second is about the tables.
    built.runner.dbt("build", "--exclude-resource-type", "unit_test")
    assert differences(before, read_marts(built.warehouse)) == {}


def test_marts_are_identical_on_both_warehouses(hospital: Hospital) -> None:
    assert differences(read_marts(hospital.duckdb.warehouse), read_marts(hospital.postgres.warehouse)) == {}


def test_a_model_changed_on_one_side_only_is_noticed(hospital: Hospital, tmp_path: Path) -> None:
    changed = copy_of_the_project(tmp_path / "project")
    model = changed / "models" / "marts" / "monitoring" / "fact_drift_events.sql"
    sql = model.read_text(encoding="utf-8")
    assert "measured_at > started_at" in sql
    model.write_text(sql.replace("measured_at > started_at", "measured_at >= started_at"), encoding="utf-8")
    duckdb = hospital.duckdb
    profiles_dir = Path(duckdb.runner.env["DBT_PROFILES_DIR"])
    runner = Runner(tmp_path, profiles_dir, {**duckdb.warehouse.env, "CDW_TARGET": "duckdb"}, changed)
    try:
        runner.dbt("run", "--select", "fact_drift_events")
        found = differences(read_marts(duckdb.warehouse), read_marts(hospital.postgres.warehouse))
    finally:
        duckdb.runner.dbt("run", "--select", "fact_drift_events")
    assert found.keys() == {"monitoring.fact_drift_events"}


@pytest.mark.parametrize("table", ["raw.device_telemetry", "raw_restricted.rejected_records"])
def test_a_lost_record_is_noticed(built: Built, table: str) -> None:
    of_topic = "_topic = 'device.telemetry'"
    which = f"{of_topic} and _offset = (select min(_offset) from {table} where {of_topic})"
    built.warehouse.run(
        f"create table raw.kept as select * from {table} where {which}",
        f"delete from {table} where {which}",
    )
    select = ("--select", "reconciliation", "every_record_is_loaded_or_rejected")
    try:
        lost = built.runner.run("dbt", "--no-use-colors", "build", *select)
    finally:
        built.warehouse.run(f"insert into {table} select * from raw.kept", "drop table raw.kept")
    assert lost.returncode == 1
    assert "FAIL 1 every_record_is_loaded_or_rejected" in lost.stdout
    built.runner.dbt("build", *select)


def test_a_record_loaded_twice_is_noticed(built: Built) -> None:
    which = "_offset = (select min(_offset) from raw.device_telemetry)"
    built.warehouse.run(
        f"create table raw.kept as select * from raw.device_telemetry where {which}",
        "insert into raw.device_telemetry select * from raw.kept",
    )
    try:
        twice = built.runner.run("dbt", "--no-use-colors", "build", "--select", "source:raw.device_telemetry")
    finally:
        built.warehouse.run(
            f"delete from raw.device_telemetry where {which}",
            "insert into raw.device_telemetry select * from raw.kept",
            "drop table raw.kept",
        )
    assert twice.returncode == 1
    assert "FAIL 1" in twice.stdout
