"""The EHR's Postgres, Debezium on Kafka Connect, Kafka, raw, dim_prescriptions: all the real thing."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT, DuckDB, Postgres, Warehouse
from tests.parts import jars
from tests.parts.connect import Worker
from tests.parts.kafka import Cluster
from tests.parts.postgres import Server
from tests.parts.process import wait_until
from tests.warehouse.hospital import Runner

DEPLOY = PROJECT / "deploy" / "connect"
PASSWORD = "a word of the EHR's"
PREFIX = "healthcare.public."
TABLES = ["patients", "devices", "prescriptions"]

MODELS = ["--select", "+dim_prescriptions", "+dim_patients", "--exclude-resource-type", "test", "unit_test"]

SCHEMA = """
create table patients (
    id bigint generated always as identity primary key, patient_id text not null, social_security_number text,
    given_name text, family_name text, gender text default 'unknown', birth_date date, zip_code text
);
create table devices (
    id bigint generated always as identity primary key, device_id text not null, patient_id text,
    model_type text, manufacturer text, serial_number text, software_version text,
    pressure_setting numeric(8, 3), flow_rate_setting numeric(8, 3), flow_level numeric(8, 3)
);
create table prescriptions (
    id bigint generated always as identity primary key, prescription_id text not null, patient_id text,
    device_id text, medication_or_therapy text, start_date timestamp, end_date timestamp, parameters jsonb
);
insert into patients (patient_id, social_security_number, given_name, gender, birth_date)
values ('P-1', 'never to leave', 'Ada', null, '1950-12-10');
insert into devices (device_id, patient_id, pressure_setting) values ('D-1', 'P-1', 10.250);
"""


def pressure(value: float, more: str = "") -> str:
    """Parameters of one metric; ``more`` makes them long."""
    parameter = {"parameter_name": "Pressure", "parameter_type": "float", "parameter_tolerance": 1.0}
    return json.dumps([{**parameter, "parameter_value": value, "note": more}])


class Ehr:
    """The EHR's database, where each prescription has a device of its own, so that none cover another."""

    def __init__(self, server: Server) -> None:
        self.server = server
        server.run("drop role if exists cdw_connect", SCHEMA, (DEPLOY / "ehr.sql").read_text())
        server.run(f"alter role cdw_connect password '{PASSWORD.replace(chr(39), 2 * chr(39))}'")

    def change(self, *statements: str) -> datetime:
        """Run statements in one transaction; when it was committed, as precise as Debezium tells it."""
        with self.server.connect() as connection:
            with connection.transaction():
                for statement in statements:
                    connection.execute(statement)
                [(number,)] = connection.execute("select pg_current_xact_id()::xid").fetchall()
            [(committed_at,)] = connection.execute(
                "select date_trunc('milliseconds', pg_xact_commit_timestamp(%s::xid)) at time zone 'UTC'",
                [number],
            ).fetchall()
        assert isinstance(committed_at, datetime)
        return committed_at

    def prescribe(self, number: int, starts_at: str, value: float, more: str = "") -> str:
        return (
            "insert into prescriptions (prescription_id, patient_id, device_id, start_date, parameters) "
            f"values ('RX-{number}', 'P-1', 'D-{number}', '{starts_at}', '{pressure(value, more)}')"
        )

    @staticmethod
    def alter(number: int, value: float) -> str:
        return (
            f"update prescriptions set parameters = '{pressure(value)}' where prescription_id = 'RX-{number}'"
        )

    @staticmethod
    def delete(number: int) -> str:
        return f"delete from prescriptions where prescription_id = 'RX-{number}'"


@pytest.fixture
def ehr(own_postgres: Server) -> Iterator[Ehr]:
    yield Ehr(own_postgres)
    own_postgres.start()
    # A slot that somebody reads cannot be dropped, and a database with a slot neither.
    slots = "from pg_replication_slots where slot_name = 'cdw'"
    own_postgres.run(f"select pg_terminate_backend(active_pid) {slots}")
    wait_until(lambda: own_postgres.rows(f"select 1 {slots} and active") == [], "nobody reads the slot")
    own_postgres.run(f"select pg_drop_replication_slot(slot_name) {slots}", "drop owned by cdw_connect")


@pytest.fixture
def env(ehr: Ehr, kafka: Cluster) -> Mapping[str, str]:
    """What the connector's file reads."""
    return {
        "EHR_HOST": ehr.server.host,
        "EHR_PORT": str(ehr.server.port),
        "EHR_DATABASE": ehr.server.dbname,
        "EHR_USER": "cdw_connect",
        "EHR_PASSWORD": PASSWORD,
    }


@pytest.fixture
def worker(kafka: Cluster, env: Mapping[str, str], tmp_path: Path) -> Iterator[Worker]:
    plugins = {"debezium-postgres": jars.DEBEZIUM_POSTGRES}
    with Worker(kafka, tmp_path / "connect", plugins, env=env) as worker:
        yield worker


def count(kafka: Cluster, table: str) -> int:
    """The records of a table's topic so far."""
    topic = PREFIX + table
    return sum(kafka.end_offsets(topic).values()) if topic in kafka.topics() else 0


def wait_for(kafka: Cluster, table: str, records: int) -> None:
    wait_until(lambda: count(kafka, table) >= records, f"{records} records of {table}")
    assert count(kafka, table) == records


@pytest.fixture
def runners(
    kafka: Cluster,
    worker: Worker,
    tmp_path: Path,
    profiles_dir: Path,
    postgres: Postgres,
) -> list[tuple[Warehouse, Runner]]:
    """Both kinds of warehouse, loaded from the same Kafka."""
    warehouses: list[Warehouse] = [DuckDB(tmp_path / "warehouse.duckdb"), postgres]
    settings = {"CDW_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "CDW_CONNECT_URL": worker.url, **worker.env}
    runners = []
    for warehouse in warehouses:
        folder = tmp_path / warehouse.target
        folder.mkdir()
        own = {**settings, **warehouse.env, "CDW_TARGET": warehouse.target}
        runners.append((warehouse, Runner(folder, profiles_dir, own)))
    return runners


def test_prescriptions_are_right_after_changes_a_crash_and_a_second_snapshot(
    ehr: Ehr, kafka: Cluster, worker: Worker, runners: list[tuple[Warehouse, Runner]]
) -> None:
    cdw = runners[0][1]
    # There before the connector is: read by its snapshot.
    ehr.change(ehr.prescribe(1, "2026-01-01", 10), ehr.prescribe(2, "2026-01-02", 20))
    assert "cdw-ehr: RUNNING, task 0 RUNNING" in cdw.check("cdw", "connect", "register")
    wait_for(kafka, "prescriptions", 2)

    # Read from the log: inserted, changed, changed twice at once, deleted, inserted and deleted at once.
    ehr.change(ehr.prescribe(3, "2026-01-03 12:30:00.5", 30))
    changed = [ehr.change(ehr.alter(1, 11)), ehr.change(ehr.alter(1, 12), ehr.alter(1, 13))]
    deleted = ehr.change(ehr.delete(2))
    fleeting = ehr.change(ehr.prescribe(4, "2026-01-04", 40), ehr.delete(4))
    wait_for(kafka, "prescriptions", 2 + 1 + 3 + 2 + 3)  # a deletion is followed by a tombstone
    for _, runner in runners:
        runner.check("cdw", "load", "--once", "--start", "earliest")

    # The worker dies; what changes meanwhile is read when it is back, and no table is read anew.
    worker.kill()
    changed.append(ehr.change(ehr.alter(1, 14)))
    ehr.change(ehr.prescribe(5, "2026-01-05", 50, "é" * 20_000))  # stored out of line
    worker.start()
    wait_for(kafka, "prescriptions", 13)
    assert "cdw-ehr: RUNNING, task 0 RUNNING" in cdw.check("cdw", "connect", "register")

    # A change that leaves a long value where it is tells it all the same; one of a column that is not for us
    # tells nothing.
    ehr.change("update prescriptions set end_date = '2027-01-01' where prescription_id = 'RX-5'")
    ehr.change("update patients set social_security_number = 'another'")
    wait_for(kafka, "prescriptions", 14)

    # All four rows are read once more, and changes go on after them.
    cdw.check("cdw", "connect", "snapshot", "cdw-ehr")
    wait_for(kafka, "prescriptions", 17)
    changed.append(ehr.change(ehr.alter(1, 15)))
    deleted_last = ehr.change(ehr.delete(3))
    wait_for(kafka, "prescriptions", 20)
    assert [count(kafka, table) for table in TABLES] == [2, 2, 20]
    assert "nothing wrong" in cdw.check("cdw", "connect", "check")

    at = datetime.fromisoformat
    versions = zip([10, 11, 13, 14, 15], [at("2026-01-01"), *changed], [*changed, None], strict=True)
    expected: list[tuple[Any, ...]] = [("RX-1", *version) for version in versions]
    expected += [
        ("RX-2", 20, at("2026-01-02"), deleted),
        ("RX-3", 30, at("2026-01-03T12:30:00.5"), deleted_last),
        ("RX-4", 40, at("2026-01-04"), fleeting),
        ("RX-5", 50, at("2026-01-05"), at("2027-01-01")),
    ]
    for warehouse, runner in runners:
        runner.check("cdw", "load", "--once")
        runner.dbt("build", *MODELS)
        assert (
            warehouse.rows(
                "select prescription_id, cast(prescribed_value as integer), valid_from, valid_to "
                "from core.dim_prescriptions order by prescription_id, valid_from"
            )
            == expected
        )
        assert warehouse.rows("select count(*) from raw_restricted.rejected_records") == [(0,)]
        for table in TABLES:
            assert warehouse.rows(f"select count(*) from raw.healthcare_public_{table}") == [
                (count(kafka, table),)
            ]
            assert "never to leave" not in str(
                warehouse.rows(f"select payload from raw.healthcare_public_{table}")
            )
        # A NULL stays one, though its column has a default; dates, decimals and names arrive.
        assert warehouse.rows(
            "select patient_id, given_name, sex, cast(birth_date as varchar), "
            "cast(device_pressure as varchar) from core.dim_patients"
        ) == [("P-1", "Ada", None, "1950-12-10", "10.250000")]
