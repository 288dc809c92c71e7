"""Devices that speak HL7 (IHE PCD-01, PCD-04): readings as from JSON, refusals with reasons, alarms apart."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import DuckDB, Postgres, Warehouse
from tests.warehouse.hospital import Runner

START = datetime(2026, 1, 5, 9)
BY_JSON, BY_HL7, BOTH_WAYS = "VENT-J", "VENT-H", "VENT-B"
PRESCRIBED = json.dumps(
    [
        {"parameter_name": "Pressure", "parameter_value": 10.0, "parameter_tolerance": 1.0},
        {"parameter_name": "FlowRate", "parameter_value": 2.5, "parameter_tolerance": 0.5},
    ]
)
METRICS = {
    "Pressure": ("151792^MDC_PRESS_AWAY^MDC", "cmH2O", "266048^MDC_DIM_CM_H2O^MDC"),
    "FlowRate": ("151764^MDC_FLOW_AWAY^MDC", "mL/min", "265234^MDC_DIM_MILLI_L_PER_MIN^MDC"),
    "MDC_VOL_AWAY_TIDAL": ("151868^MDC_VOL_AWAY_TIDAL^MDC", "mL", "mL^mL^UCUM"),
}


class Sample(NamedTuple):
    """What a device measured at one moment, by metric, each value as it is written."""

    at: datetime
    values: dict[str, str]


def samples() -> Iterator[Sample]:
    """Two hours, every 30 seconds but for a silence; the pressure is too high for 20 minutes of them."""
    for number in range(240):
        if 100 <= number < 140:
            continue
        pressure = 12.25 if 30 <= number < 70 else 9.5 + number % 7 / 8
        at = START + timedelta(seconds=30 * number, milliseconds=250)
        yield Sample(
            at,
            {
                "Pressure": f"{pressure:.3f}",
                "FlowRate": str(2400 + 10 * (number % 11)),
                "MDC_VOL_AWAY_TIDAL": f"{410 + number % 13}",
            },
        )


def json_lines(device: str) -> Iterator[bytes]:
    for at, values in samples():
        for metric, value in values.items():
            yield json.dumps(
                {
                    "device_id": device,
                    "patient_id": "MRN1",
                    "ts": at.isoformat(timespec="milliseconds") + "Z",
                    "metric_name": metric,
                    "metric_value": value,
                    "unit": METRICS[metric][1],
                }
            ).encode()


def msh(event: str = "R01", sent_at: str = "20260105110000+0000", control_id: str = "1") -> str:
    return f"MSH|^~\\&|VENT|WARD|||{sent_at}||ORU^{event}^ORU_{event}|{control_id}|P|2.6"


def pid(number: int = 0) -> str:
    """The patient of the prescription: by the EHR's number, or by the ward's with the EHR's beside it."""
    return "PID|||" + ("W7^^^WARD^MR~MRN1^^^EHR^PI" if number % 2 else "MRN1^^^EHR^MR")


def obx(
    code: str,
    value: str,
    unit: str = "",
    *,
    kind: str = "NM",
    status: str = "R",
    at: str = "",
    place: str = "1.1.1.1",
    device: str = "",
) -> str:
    return f"OBX|1|{kind}|{code}|{place}|{value}|{unit}|||||{status}|||{at}||||{device}"


def mds(device: str) -> str:
    return obx("70049^MDC_DEV_SYS_PT_VENT_MDS^MDC", "", kind="", status="X", place="1.0.0.0", device=device)


def hl7_messages(device: str) -> Iterator[str]:
    """A message a moment: an hour ahead of UTC in OBR-7, as PCD-01 has it, the device named on top alone."""
    for number, (at, values) in enumerate(samples()):
        local = (at + timedelta(hours=1)).strftime("%Y%m%d%H%M%S.%f")[:-3] + "+0100"
        metrics = [
            obx(METRICS[metric][0], value, METRICS[metric][2], place=f"1.1.1.{place}")
            for place, (metric, value) in enumerate(values.items(), 1)
        ]
        order = f"OBR|1||{device}{number}|70049^MDC_DEV_SYS_PT_VENT_MDS^MDC|||{local}"
        mode = obx("184352^MDC_VENT_MODE^MDC", "184385^MDC_ASSIST^MDC", kind="CWE", place="1.1.1.9")
        header = msh(control_id=f"{device}{number}")
        yield "\r".join([header, pid(number), order, mds(device), *metrics, mode]) + "\r"


PRESSURE, CM = METRICS["Pressure"][0], METRICS["Pressure"][2]
HECTOPASCAL = "265986^MDC_DIM_HECTO_PASCAL^MDC"
REFUSED: list[tuple[str, str]] = [
    ("no_number", obx(PRESSURE, "high", CM, device="D1")),
    ("no_number", obx(PRESSURE, ">^10", CM, kind="SN", device="D1")),
    ("no_number", obx(PRESSURE, "10~11", CM, device="D1")),
    ("no_number", obx(PRESSURE, "1e12", CM, device="D1")),
    ("no_number", obx(PRESSURE, "120^130", CM, device="D1")),
    ("no_number", obx(PRESSURE, "1&200", CM, device="D1")),
    ("no_number", obx(PRESSURE, "=^10^-", CM, kind="SN", device="D1")),
    ("unknown_unit", obx(PRESSURE, "10", "262688^MDC_DIM_PERCENT^MDC", device="D1")),
    ("unreadable_time", obx(PRESSURE, "10", CM, at="20260230", device="D1")),
    ("imprecise_time", obx(PRESSURE, "10", CM, at="20260105", device="D1")),
    ("clock_ahead", obx(PRESSURE, "10", CM, at="20260105120501+0000", device="D1")),
    ("unknown_status", obx(PRESSURE, "10", CM, status="Q", at="20260105090000", device="D1")),
    ("incomplete_segment", obx(PRESSURE, "1", at="20260105090000", device="D1") + "\rADD|\rDSC|NEXT"),
    ("incomplete_segment", f"OBX|1|NM|{PRESSURE}|1.1.1.1|1\rADD|\rDSC|NEXT"),
    # Two channels that measure two things under one name: neither is the device's.
    (
        "several_channels",
        obx(PRESSURE, "10", CM, device="D2") + "\r" + obx(PRESSURE, "12", CM, place="1.1.2.1", device="D2"),
    ),
    (
        "several_channels",
        obx(PRESSURE, "10", CM, at="20260105091000+0000", device="D2")
        + "\r"
        + obx(PRESSURE, "20", HECTOPASCAL, at="20260105091000+0000", place="1.1.2.1", device="D2"),
    ),
    # A reading, and the message that takes it back.
    ("removed", obx(PRESSURE, "10", CM, at="20260105092000+0000", device="D3")),
]
WITHOUT_DEVICE: list[tuple[str, str]] = [
    ("no_device", obx(PRESSURE, "10", CM)),
    ("no_device", obx(PRESSURE, "10", CM, place="2.1.1.1") + "\r" + mds("D9")),
]
# Two readings of a metric that nobody knows, taken back without a unit.
NO_METRIC, NO_METRIC_AT = "1^MDC_SOMETHING^MDC", "20260105092100+0000"
UNKNOWN_METRIC = [
    obx(NO_METRIC, "3", unit, at=NO_METRIC_AT, device="D3") for unit in ("mL^mL^UCUM", "L^L^UCUM")
]
REFUSED += [("removed", segment) for segment in UNKNOWN_METRIC]
# What a device says again, in the order in which it arrives: sent at, status, value; and what stands.
WORDS: dict[str, tuple[list[tuple[str, str, str]], str]] = {
    "D4": ([("12", "F", "20"), ("13", "P", "99")], "20"),
    "D5": ([("12", "P", "18"), ("13", "F", "21")], "21"),
    "D6": ([("13", "F", "22"), ("12", "C", "23")], "22"),
    "D7": ([("12", "F", "24"), ("13", "D", "24"), ("14", "P", "25")], "25"),
    "D8": ([("12", "F", "26"), ("13", "C", "27")], "27"),
}
TAKEN_BACK = obx(PRESSURE, "10", CM, status="W", at="20260105092000+0000", device="D3")
ALARM = [
    "OBR|1||A1^WARD|196616^MDC_EVT_ALARM^MDC|||20260105093000+0000",
    f"OBX|1|ST|196648^MDC_EVT_HI_GT_LIM^MDC|1.1.1.1.1|High|||PH~SP|||R|||||||{BY_HL7}",
    "OBX|2|NM|151792^MDC_PRESS_AWAY^MDC|1.1.1.1.2|31|266048^MDC_DIM_CM_H2O^MDC|||||R",
    "OBX|3|NM|8867-4^Heart rate^LN|1.1.1.1.2|180|/min|||||F",
    "OBX|4|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.1.1.1.3|start||||||R",
]


def refused_messages() -> Iterator[str]:
    for number, (reason, segments) in enumerate([*REFUSED, *WITHOUT_DEVICE]):
        order_time = "" if reason == "unreadable_time" else "20260105090000+0000"
        order = f"OBR|1||R{number}|70049^MDC_DEV_SYS_PT_VENT_MDS^MDC|||{order_time}"
        yield "\r".join([msh(control_id=f"R{number}"), pid(), order, segments]) + "\r"
    yield "\r".join([msh(control_id="W"), pid(), "OBR|1||W", TAKEN_BACK]) + "\r"
    back = obx(NO_METRIC, "", status="D", at=NO_METRIC_AT, device="D3")
    yield "\r".join([msh(control_id="U"), pid(), "OBR|1||U", back]) + "\r"


def words() -> Iterator[str]:
    for device, (told, _) in WORDS.items():
        for hour, status, value in told:
            header = msh(sent_at=f"20260105{hour}0000+0000", control_id=f"{device}{hour}")
            segment = obx(PRESSURE, value, CM, status=status, at="20260105093000+0000", device=device)
            yield "\r".join([header, pid(), "OBR|1||" + device, segment]) + "\r"


def build(folder: Path, profiles_dir: Path, warehouse: Warehouse) -> None:
    runner = Runner(folder, profiles_dir, {**warehouse.env, "CDW_TARGET": warehouse.target})
    topics = folder / "topics"
    topics.mkdir()
    prescriptions = [
        {
            "id": number,
            "prescription_id": f"RX{number}",
            "patient_id": "MRN1",
            "device_id": device,
            "start_date": 1767500000000,
            "parameters": PRESCRIBED,
        }
        for number, device in enumerate((BY_JSON, BY_HL7, BOTH_WAYS))
    ]
    changes = [
        json.dumps({"after": row, "source": {"ts_ms": 1767500000000, "lsn": number}, "op": "c"}).encode()
        for number, row in enumerate(prescriptions)
    ]
    (topics / "healthcare.public.prescriptions.jsonl").write_bytes(b"".join(one + b"\n" for one in changes))
    readings = [*json_lines(BY_JSON), *json_lines(BOTH_WAYS)]
    (topics / "device.telemetry.jsonl").write_bytes(b"".join(one + b"\n" for one in readings))
    alarm = "\r".join([msh("R40", control_id="A"), pid(), *ALARM]) + "\r"
    messages = [*hl7_messages(BY_HL7), *hl7_messages(BOTH_WAYS), *refused_messages(), *words(), alarm]
    (folder / "wards.hl7").write_bytes("".join(messages).encode())
    runner.check("cdw", "ingest", str(folder / "wards.hl7"), "--to-dir", str(topics))
    runner.load(topics)
    runner.dbt("build", "--exclude-resource-type", "unit_test")


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def ward(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, profiles_dir: Path
) -> Warehouse:
    """Three ventilators with one prescription, by JSON, by HL7 and by both; loaded and built."""
    folder = tmp_path_factory.mktemp("ward")
    warehouse: Warehouse = DuckDB(folder / "warehouse.duckdb")
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres_module")
        warehouse = server
    build(folder, profiles_dir, warehouse)
    return warehouse


MARTS = {
    "fact_telemetry_1h": "metric_name, unit, window_start, reading_count, avg_value, min_value, max_value, "
    "sum_value, stddev_value, first_value, last_value, expected_count, coverage_pct, patient_key",
    "fact_compliance_1h": "metric_name, window_start, assessment, readings_total, readings_in_range, "
    "readings_above, readings_below, compliance_pct, held_seconds, in_range_seconds, patient_key",
    "fact_drift_events": "metric_name, started_at, last_reading_at, ended_at, end_reason, reading_count, "
    "peak_value, peak_deviation, is_alert, alert_raised_at, patient_key",
}


def of_device(warehouse: Warehouse, mart: str, device: str) -> list[tuple[Any, ...]]:
    columns = MARTS[mart]
    return warehouse.rows(
        f"select {columns} from monitoring.{mart} where device_id = '{device}' order by 1, 2, 3"
    )


@pytest.mark.parametrize("mart", MARTS)
def test_hl7_gives_what_json_gives(ward: Warehouse, mart: str) -> None:
    by_json = of_device(ward, mart, BY_JSON)
    assert by_json
    assert of_device(ward, mart, BY_HL7) == by_json
    assert of_device(ward, mart, BOTH_WAYS) == by_json


def test_the_prescription_is_met_and_missed(ward: Warehouse) -> None:
    found = ward.rows(
        "select metric_name, assessment, sum(readings_total), sum(readings_above) "
        f"from monitoring.fact_compliance_1h where device_id = '{BY_HL7}' group by 1, 2 order by 1"
    )
    assert [(*row[:2], *(value and int(value) for value in row[2:])) for row in found] == [
        ("FlowRate", "assessed", 200, 0),
        ("MDC_VOL_AWAY_TIDAL", "no_prescription", 200, None),
        ("Pressure", "assessed", 200, 40),
    ]
    drift = ward.rows(
        f"select reading_count, is_alert from monitoring.fact_drift_events where device_id = '{BY_HL7}'"
    )
    assert drift == [(40, True)]


def test_one_patient_whichever_number_was_sent(ward: Warehouse) -> None:
    patients = ward.rows("select distinct patient_key from monitoring.fact_telemetry_1h")
    assert len(patients) == 1
    assert ward.rows("select count(*) from core.dim_patients") == [(1,)]


def test_what_comes_both_ways_is_one_reading(ward: Warehouse) -> None:
    found = ward.rows(
        "select device_id, sum(reading_count), sum(duplicate_count) from monitoring.fact_telemetry_1h "
        f"where device_id in ('{BY_JSON}', '{BY_HL7}', '{BOTH_WAYS}') group by 1 order by 1"
    )
    counts = {device: (int(readings), int(duplicates)) for device, readings, duplicates in found}
    assert counts == {BY_JSON: (600, 0), BY_HL7: (600, 0), BOTH_WAYS: (600, 600)}


def test_refused_with_a_reason_and_a_place(ward: Warehouse) -> None:
    expected = Counter(reason for reason, _ in REFUSED)
    expected["several_channels"] *= 2
    found = ward.rows(
        "select reject_reason, count(*), count(segment_number) from intermediate.int_telemetry__rejects "
        "where sent_as = 'hl7' group by reject_reason"
    )
    assert {reason: (count, places) for reason, count, places in found} == {
        reason: (count, count) for reason, count in expected.items()
    }
    counted = dict(
        ward.rows("select reason, record_count from operations.rejects where topic = 'hl7.messages'")
    )
    # The same segment is refused as an observation too.
    assert counted["incomplete_segment"] == 2 * expected["incomplete_segment"]


def test_the_last_word_stands(ward: Warehouse) -> None:
    found = ward.rows(
        "select device_id, reading_count, last_value from monitoring.fact_telemetry_1h "
        "where device_id in ('D4', 'D5', 'D6', 'D7', 'D8') order by device_id"
    )
    assert [(device, int(count), str(int(value))) for device, count, value in found] == [
        (device, 1, value) for device, (_, value) in WORDS.items()
    ]


def test_a_cut_segment_is_no_observation(ward: Warehouse) -> None:
    assert ward.rows("select count(*) from core.fact_observations where value_number = 1") == [(0,)]


def test_what_is_no_measurement_is_counted_by_kind(ward: Warehouse) -> None:
    messages = 2 * len(list(samples()))
    found = dict(
        ward.rows(
            "select other_kind, count(*) from intermediate.int_telemetry__hl7_observations "
            "where other_kind is not null group by other_kind"
        )
    )
    assert found == {
        "not_obtained": messages + 1,
        "not_numeric": messages,
        "removal": 3,
        "no_device": len(WITHOUT_DEVICE),
    }


def test_device_observations_are_observations_too(ward: Warehouse) -> None:
    found = ward.rows("select count(*) from core.fact_observations where code = '151764'")
    assert found == [(2 * len(list(samples())),)]


def test_alarms_are_no_observations(ward: Warehouse) -> None:
    alarms = ward.rows(
        "select device_id, event_code_text, source_code_text, source_value, event_phase, alarm_priority, "
        "alarm_type, alarm_at from staging.stg_hl7__alarms"
    )
    assert alarms == [
        (
            BY_HL7,
            "MDC_EVT_HI_GT_LIM",
            "MDC_PRESS_AWAY",
            "31",
            "start",
            "PH",
            "SP",
            datetime(2026, 1, 5, 9, 30),
        )
    ]
    assert ward.rows("select count(*) from core.fact_observations where value_number in (31, 180)") == [(0,)]
    assert ward.rows("select count(*) from vitals.fact_vitals_1h") == [(0,)]
    assert ward.rows(
        f"select count(*) from monitoring.fact_telemetry_1h where device_id = '{BY_HL7}' and max_value = 31"
    ) == [(0,)]
