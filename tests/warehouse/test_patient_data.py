"""No name, record number or device id is said anywhere: planted ones are looked for in every output."""

import base64
import json
from pathlib import Path

import duckdb

from tests.conftest import Warehouse
from tests.warehouse.hospital import Runner

FAMILY, GIVEN, RECORD, DEVICE = "Canarywitz", "Zephyrine", "MRN-CANARY-4711", "DEV-CANARY-0815"
SERIAL, SECRET, CONTROL = "SN-CANARY-1234", "value-canary-99", "CTRLCANARY7"
CANARIES = (FAMILY, GIVEN, RECORD, DEVICE, SERIAL, SECRET, CONTROL)

READING = {
    "device_id": DEVICE,
    "patient_id": RECORD,
    "ts": "2026-01-05T10:00:00Z",
    "metric_name": "Pressure",
    "metric_value": 10.5,
}


def telemetry() -> list[bytes]:
    """A good reading, one that each gate refuses in each way, and one that no model can read."""
    good = json.dumps(READING).encode()
    at_the_loader = [
        good[:-1],
        good.replace(b"10.5", b"NaN"),
        good.replace(b"10.5", b"1.5e400"),
        good.replace(b"10.5", b'"' + SECRET.encode() + b'\\u0000"'),
        good.replace(b"10.5", b'"' + SECRET.encode() + b'\\ud800"'),
        good.replace(b"10.5", b'"' + SECRET.encode() + b'\xff"'),
        good.replace(b"10.5", b'"' + SECRET.encode() * 5_000 + b'"'),
        good.replace(b"10.5", b'"' + SECRET.encode() * 400_000 + b'"'),
        good.replace(b"metric_value", b"METRIC_VALUE"),
        good.replace(b"{", b'{"device_id": "' + SECRET.encode() + b'", '),
        json.dumps([READING]).encode(),
        b"",
    ]
    in_the_models = [
        json.dumps(READING | changes).encode()
        for changes in (
            {"metric_value": SECRET},
            {"ts": SECRET},
            {"unit": SECRET},
            {"metric_name": None},
            {"ts": "2026-02-30T10:00:00Z"},
            {"device_id": {"name": SECRET}},
        )
    ]
    return [good, *at_the_loader, *in_the_models]


def change(after: dict[str, object], lsn: int) -> bytes:
    source = {"ts_ms": 1767571200000, "lsn": lsn}
    return json.dumps({"before": None, "after": after, "source": source, "op": "c"}).encode()


PRESCRIBED = json.dumps([{"parameter_name": "Pressure", "parameter_value": 10.0, "parameter_tolerance": 1.0}])
PATIENT = {
    "id": 1,
    "patient_id": RECORD,
    "given_name": GIVEN,
    "family_name": FAMILY,
    "birth_date": "1960-01-01",
}
REGISTERED = {"id": 1, "device_id": DEVICE, "patient_id": RECORD, "serial_number": SERIAL}
PRESCRIPTION = {"id": 1, "prescription_id": "RX-1", "patient_id": RECORD, "device_id": DEVICE}
MSH = f"MSH|^~\\&|APP|WEST|||20260105100000||ADT^A01|{CONTROL}|P|2.5"
PID = f"PID|1||{RECORD}^^^EHR^MR||{FAMILY}^{GIVEN}||19600101|F"
HL7 = [
    f"{MSH}\r{PID}\rPV1|1|I|WARD^1^A\r",
    f"{MSH}\r{PID}\rPV1|1|I|\x00WARD^1^A\r",
    f"MSH|^^^^|APP|WEST|||20260105100000||ADT^A01|{CONTROL}|P|2.5\r{PID}\r",
    f"MSH|^~\\&|APP|WEST|||20260105100000|||{CONTROL}|P|2.5\r{PID}\r",
    f"{PID}\r",
]


def write_topics(topics: Path) -> None:
    topics.mkdir()
    files = {
        "device.telemetry": telemetry(),
        "healthcare.public.patients": [change(PATIENT, 1), change(PATIENT | {"birth_date": SECRET}, 2)],
        "healthcare.public.devices": [change(REGISTERED, 3)],
        "healthcare.public.prescriptions": [
            change(PRESCRIPTION | {"parameters": PRESCRIBED}, 4),
            change(PRESCRIPTION | {"id": 2, "parameters": f'[{{"parameter_name": {SECRET}'}, 5),
            change(PRESCRIPTION | {"id": 3, "start_date": SECRET, "parameters": PRESCRIBED}, 6),
        ],
    }
    for topic, lines in files.items():
        (topics / f"{topic}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


def test_nothing_planted_is_said_anywhere(tmp_path: Path, profiles_dir: Path, warehouse: Warehouse) -> None:
    runner = Runner(tmp_path, profiles_dir, {**warehouse.env, "CDW_TARGET": warehouse.target})
    topics, messages = tmp_path / "topics", tmp_path / "hl7"
    write_topics(topics)
    messages.mkdir()
    for number, message in enumerate(HL7):
        (messages / f"{number}.hl7").write_bytes(message.encode())
    files = [str(file) for file in sorted(messages.iterdir())]

    runner.check("cdw", "ingest", *files, "--to-dir", str(topics))
    loaded = runner.load(topics)
    assert "rejected" in loaded
    runner.check("cdw", "status")
    runner.check("cdw", "status", "--json")
    runner.dbt("build", "--exclude-resource-type", "unit_test")
    runner.dbt("docs", "generate")

    # The ways in which things fail: a failing test, a changed file, a warehouse in another's hands.
    warehouse.run("insert into raw.device_telemetry select * from raw.device_telemetry")
    assert runner.run("dbt", "build", "--exclude-resource-type", "unit_test").returncode == 1
    telemetry_file = topics / "device.telemetry.jsonl"
    telemetry_file.write_bytes(telemetry_file.read_bytes().replace(b"10.5", b"11.5"))
    assert runner.run("cdw", "load", "--from", str(topics)).returncode == 1
    if warehouse.target == "duckdb":
        with duckdb.connect(warehouse.env["CDW_DUCKDB_PATH"]):
            assert runner.run("cdw", "status").returncode == 1

    # The plants are where they belong, or the search below could not fail.
    rows = warehouse.rows("select patient_id, family_name from core.dim_patients")
    assert (RECORD, FAMILY) in rows
    assert found_in(tmp_path, runner) == []


def found_in(folder: Path, runner: Runner) -> list[str]:
    """Which plants stand in which file of what was said, plain or in base64."""
    files = [
        runner.said,
        *(f for part in (runner.logs, runner.target) for f in part.rglob("*") if f.is_file()),
    ]
    assert len(files) > 10
    needles = {
        name: [name.encode(), *(base64.b64encode((" " * n + name).encode())[4:-4] for n in range(3))]
        for name in CANARIES
    }
    return [
        f"{canary} in {file.relative_to(folder)}"
        for file in files
        for canary, spellings in needles.items()
        if any(spelling in file.read_bytes() for spelling in spellings)
    ]
