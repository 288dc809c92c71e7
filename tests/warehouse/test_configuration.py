"""A hospital whose topics and fields are named otherwise changes dbt_project.yml and nothing else."""

from pathlib import Path

from tests.conftest import DuckDB
from tests.warehouse.hospital import Runner, copy_of_the_project


def test_topics_and_fields_of_another_name(tmp_path: Path, profiles_dir: Path) -> None:
    project = copy_of_the_project(tmp_path / "project")
    configuration = project / "dbt_project.yml"
    settings = configuration.read_text(encoding="utf-8")
    for ours, theirs in (
        ("    device.telemetry:", "    icu.readings:"),
        ("      device_id: device_id", "      device_id: deviceId"),
        ("      metric_value: metric_value", "      metric_value: val"),
    ):
        assert ours in settings
        settings = settings.replace(ours, theirs, 2 if ours.endswith(":") else 1)
    configuration.write_text(settings, encoding="utf-8")
    topics = tmp_path / "topics"
    topics.mkdir()
    reading = b'{"deviceId": "D1", "ts": "2026-01-05T10:00:00Z", "metric_name": "Pressure", "val": 9}'
    in_another_case = reading.replace(b"deviceId", b"DeviceID")
    (topics / "icu.readings.jsonl").write_bytes(b"\n".join([reading, in_another_case, b""]))

    warehouse = DuckDB(tmp_path / "warehouse.duckdb")
    runner = Runner(tmp_path, profiles_dir, warehouse.env, project)
    runner.load(topics)
    runner.dbt("build", "--exclude-resource-type", "unit_test")

    readings = warehouse.rows("select device_id, reading_count, avg_value from monitoring.fact_telemetry_1h")
    assert readings == [("D1", 1, 9.0)]
    rejects = warehouse.rows("select gate, topic, reason, record_count from operations.rejects")
    assert rejects == [("transport", "icu.readings", "E_KEY_CASE", 1)]
