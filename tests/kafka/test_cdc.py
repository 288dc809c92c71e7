"""The EHR's Postgres, Debezium on Kafka Connect, Kafka, raw, dim_prescriptions: all the real thing."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from loaders.connect.connectors import Connectors
from loaders.connect.ehr import find_problems
from loaders.errors import CdwError
from tests.conftest import PROJECT, Postgres
from tests.parts import jars
from tests.parts.connect import Worker
from tests.parts.kafka import Cluster
from tests.parts.postgres import Server
from tests.parts.process import wait_until
from tests.warehouse.hospital import Runner

DEPLOY = PROJECT / "deploy" / "connect"
PASSWORD = "known to the EHR"
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
        server.run("drop role if exists cdw_connect", SCHEMA)
        self.change(self.prescribe(1, "2026-01-01", 10), self.prescribe(2, "2026-01-02", 20))
        server.psql(DEPLOY / "ehr.sql")
        self.set_password()

    def set_password(self) -> None:
        self.server.run(f"alter role cdw_connect password '{PASSWORD}'")

    def make_slot(self) -> None:
        self.server.run("select pg_create_logical_replication_slot('cdw', 'pgoutput')")

    def drop_slot(self) -> None:
        """Drop the connector's slot, if there is one, once nobody reads it."""
        slots = "from pg_replication_slots where slot_name = 'cdw'"
        wait_until(lambda: not self.server.rows(f"select 1 {slots} and active"), "nobody reads the slot")
        self.server.run(f"select pg_drop_replication_slot(slot_name) {slots}")

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

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Meanwhile a device gets one software version after the other."""
        is_done = threading.Event()

        def change() -> None:
            with self.server.connect() as connection:
                while not is_done.wait(0.005):
                    connection.execute(
                        "update devices set software_version = coalesce(software_version::int, 0) + 1"
                    )

        thread = threading.Thread(target=change)
        thread.start()
        try:
            yield
        finally:
            is_done.set()
            thread.join()

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
    ehr = Ehr(own_postgres)
    yield ehr
    # A database with a slot cannot be dropped; the worker was killed, and its connection goes with it.
    own_postgres.start()
    ehr.drop_slot()
    own_postgres.run("drop owned by cdw_connect")


@pytest.fixture
def env(ehr: Ehr) -> Mapping[str, str]:
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


def looked_into(env: Mapping[str, str]) -> dict[str, str]:
    """The connector's settings, as a worker with these variables reads them."""
    text = (DEPLOY / "ehr.json").read_text()
    for name, value in env.items():
        text = text.replace(f"${{env:{name}}}", value)
    config: dict[str, str] = json.loads(text)["config"]
    return config


def changes(kafka: Cluster, table: str) -> list[dict[str, Any]]:
    """The changes of a table, in the order of the topic; one sent twice, after a crash, is here once."""
    topic = PREFIX + table
    if topic not in kafka.topics():
        return []
    end = kafka.end_offsets(topic)[0]
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "unused", "log_level": 0})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: dict[tuple[bytes | None, str, int], dict[str, Any]] = {}
    offset = -1
    while offset + 1 < end:
        for message in consumer.consume(end, 1):
            offset = message.offset() or 0
            if value := message.value():  # no tombstone
                envelope = json.loads(value)
                found.setdefault((message.key(), envelope["op"], envelope["source"]["lsn"]), envelope)
    consumer.close()
    return list(found.values())


def wait_for(kafka: Cluster, table: str, count: int) -> None:
    wait_until(lambda: len(changes(kafka, table)) >= count, f"{count} changes of {table}")
    assert len(changes(kafka, table)) == count


def test_prescriptions_are_right_after_changes_a_crash_and_a_second_snapshot(  # noqa: PLR0917 - all parts
    ehr: Ehr, kafka: Cluster, worker: Worker, postgres: Postgres, tmp_path: Path, profiles_dir: Path
) -> None:
    settings = {"CDW_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "CDW_CONNECT_URL": worker.url, **worker.env}
    folder = tmp_path / "runner"
    folder.mkdir()
    cdw = Runner(folder, profiles_dir, {**settings, **postgres.env, "CDW_TARGET": postgres.target})

    # There before the connector is: read by its snapshot.
    with ehr.busy():
        assert "cdw-ehr: RUNNING, task 0 RUNNING" in cdw.check("cdw", "connect", "register")
        wait_for(kafka, "prescriptions", 2)

    # Read from the log: inserted, changed, changed twice at once, deleted, inserted and deleted at once.
    ehr.change(ehr.prescribe(3, "2026-01-03 12:30:00.5", 30))
    changed = [ehr.change(ehr.alter(1, 11)), ehr.change(ehr.alter(1, 12), ehr.alter(1, 13))]
    deleted = ehr.change(ehr.delete(2))
    fleeting = ehr.change(ehr.prescribe(4, "2026-01-04", 40), ehr.delete(4))
    wait_for(kafka, "prescriptions", 2 + 1 + 3 + 1 + 2)
    cdw.check("cdw", "load", "--once", "--start", "earliest")

    # The worker dies; what changes meanwhile is read when it is back, and no table is read anew.
    worker.kill()
    changed.append(ehr.change(ehr.alter(1, 14)))
    ehr.change(ehr.prescribe(5, "2026-01-05", 50, "é" * 20_000))  # stored out of line
    worker.start()
    wait_for(kafka, "prescriptions", 9 + 2)
    assert "cdw-ehr: RUNNING, task 0 RUNNING" in cdw.check("cdw", "connect", "register")

    # A change that leaves a long value where it is tells it all the same; one of a column that is not for us
    # tells nothing.
    ehr.change("update prescriptions set end_date = '2027-01-01' where prescription_id = 'RX-5'")
    ehr.change("update patients set social_security_number = 'another'")
    wait_for(kafka, "prescriptions", 12)

    # All three rows are read once more, and changes go on after them.
    with ehr.busy():
        cdw.check("cdw", "connect", "snapshot", "cdw-ehr")
        wait_for(kafka, "prescriptions", 12 + 3)
    changed.append(ehr.change(ehr.alter(1, 15)))
    deleted_last = ehr.change(ehr.delete(3))
    wait_for(kafka, "prescriptions", 15 + 2)
    read = {table: [each["op"] for each in changes(kafka, table)].count("r") for table in TABLES}
    assert read == {"patients": 2, "devices": 2, "prescriptions": 2 + 3}
    # What was read while it changed is not dated after a change that it does not know.
    versions = [
        (each["op"], each["source"]["ts_us"], int(each["after"]["software_version"] or 0))
        for each in changes(kafka, "devices")
    ]
    for read_at, read_version in [(at, version) for operation, at, version in versions if operation == "r"]:
        assert all(version <= read_version for _, at, version in versions if at < read_at)
    assert "nothing wrong" in cdw.check("cdw", "connect", "check")

    at = datetime.fromisoformat
    of_first = zip([10, 11, 13, 14, 15], [at("2026-01-01"), *changed], [*changed, None], strict=True)
    expected: list[tuple[Any, ...]] = [("RX-1", *version) for version in of_first]
    expected += [
        ("RX-2", 20, at("2026-01-02"), deleted),
        ("RX-3", 30, at("2026-01-03T12:30:00.5"), deleted_last),
        ("RX-4", 40, at("2026-01-04"), fleeting),
        ("RX-5", 50, at("2026-01-05"), at("2027-01-01")),
    ]
    cdw.check("cdw", "load", "--once")
    cdw.dbt("build", *MODELS)
    assert (
        postgres.rows(
            "select prescription_id, cast(prescribed_value as integer), valid_from, valid_to "
            "from core.dim_prescriptions order by prescription_id, valid_from"
        )
        == expected
    )
    assert postgres.rows("select count(*) from raw_restricted.rejected_records") == [(0,)]
    for table in TABLES:
        [(count,)] = postgres.rows(f"select count(*) from raw.healthcare_public_{table}")
        assert count == kafka.end_offsets(PREFIX + table)[0]
        assert "never to leave" not in str(
            postgres.rows(f"select payload from raw.healthcare_public_{table}")
        )
    # A NULL stays one, though its column has a default; dates, decimals and names arrive.
    assert postgres.rows(
        "select patient_id, given_name, sex, cast(birth_date as varchar), "
        "cast(device_pressure as varchar) from core.dim_patients"
    ) == [("P-1", "Ada", None, "1950-12-10", "10.250000")]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("select 1", []),
        ("alter role cdw_connect password 'another'", ["the EHR's Postgres does not let the connector in"]),
        ("alter role cdw_connect noreplication", ["may not read changes (no REPLICATION)"]),
        ("revoke select on devices from cdw_connect", ["may not read public.devices"]),
        (
            "alter table prescriptions replica identity default",
            ["changes of public.prescriptions do not carry"],
        ),
        ("alter publication cdw drop table patients", ["changes of public.patients are not published"]),
        ("alter table patients rename zip_code to postcode", ["public.patients has no column zip_code"]),
        ("alter table devices rename to machines", ["there is no table public.devices"]),
        ("alter publication cdw rename to other", ["no such publication"]),
        ("alter system set wal_level = replica", ["(wal_level is not logical)"]),
    ],
)
def test_what_the_database_lacks_is_said(
    ehr: Ehr, env: Mapping[str, str], harm: str, words: list[str]
) -> None:
    ehr.server.run(harm)
    if "wal_level" in harm:
        ehr.drop_slot()  # a server with one does not start without
        words = [*words, "replication slot cdw is not there"]
        ehr.server.stop_fast()
        ehr.server.start()
    found = [each.what for each in find_problems(looked_into(env), is_registered=False)]
    assert len(found) == len(words)
    assert all(word in what for word, what in zip(words, found, strict=True)), found


def test_a_slot_that_nobody_reads_or_that_is_gone_is_said(ehr: Ehr, env: Mapping[str, str]) -> None:
    config = looked_into(env)
    ehr.drop_slot()
    [missing] = find_problems(config, is_registered=False)
    assert "replication slot cdw is not there" in missing.what
    ehr.make_slot()
    assert list(find_problems(config, is_registered=False)) == []
    [unread] = find_problems(config, is_registered=True)
    assert "nobody reads replication slot cdw" in unread.what
    # As much as a slot may keep, and more: the server takes it away from its reader.
    ehr.server.run("alter system set max_slot_wal_keep_size = '1MB'", "select pg_reload_conf()")
    for _ in range(3):
        ehr.server.run(
            "select pg_logical_emit_message(false, '', repeat('x', 1000000))", "select pg_switch_wal()"
        )
    ehr.server.run("checkpoint")
    [lost] = find_problems(config, is_registered=True)
    assert "are gone from the EHR's Postgres" in lost.what
    assert "cdw connect snapshot" in lost.do


def said(connectors: Connectors) -> list[str]:
    """All that is wrong; never in the words of Postgres, and without the password."""
    _, errors = connectors.check()
    for error in errors:
        assert not any(word in str(error) for word in (PASSWORD, "FATAL", "PSQLException"))
    return [error.what for error in errors]


def test_what_becomes_of_a_connector_is_said_in_plain_words(
    ehr: Ehr, kafka: Cluster, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**worker.env, "CDW_CONNECT_URL": worker.url, "CDW_PROJECT_DIR": str(PROJECT)}.items():
        monkeypatch.setenv(name, value)
    connectors = Connectors()
    assert said(connectors) == ["it is not registered"]
    assert connectors.show() == ["cdw-ehr: not registered"]

    # Refused for what Kafka Connect finds, and for what it does not.
    ehr.server.run("alter role cdw_connect password 'another'")
    with pytest.raises(CdwError, match="does not let the connector in"):
        connectors.register()
    ehr.set_password()
    ehr.server.run("alter publication cdw rename to other")
    with pytest.raises(CdwError, match="no such publication"):
        connectors.register()
    ehr.server.run("alter publication other rename to cdw")
    connectors.register()
    wait_for(kafka, "patients", 1)
    assert said(connectors) == []

    config = worker.request("GET", "/connectors/cdw-ehr/config")
    worker.request("PUT", "/connectors/cdw-ehr/config", {**config, "heartbeat.interval.ms": "1"})
    [changed] = said(connectors)
    assert changed.endswith("heartbeat.interval.ms")
    connectors.register()

    # The slot is dropped while nobody reads it: changes are lost, and only reading all anew mends it.
    worker.request("PUT", "/connectors/cdw-ehr/stop")
    # A task that was just about to start again would make the slot again.
    wait_until(lambda: worker.request("GET", "/connectors/cdw-ehr/status")["tasks"] == [], "no task is left")
    ehr.drop_slot()
    ehr.change("insert into patients (patient_id) values ('P-2')")
    assert {"it is stopped", "replication slot cdw is not there: no change is kept for the connector"} == set(
        said(connectors)
    )
    with pytest.raises(CdwError, match="slot cdw is not there"):
        connectors.snapshot("cdw-ehr")
    monkeypatch.delenv("EHR_PASSWORD")
    with pytest.raises(CdwError, match="are gone from the EHR's Postgres"):
        connectors.register()
    notes, errors = connectors.check()
    assert notes == ["cdw-ehr: the database was not looked into (EHR_PASSWORD not set here)"]
    assert ["are gone from the EHR's Postgres" in error.what for error in errors] == [True]
    monkeypatch.setenv("EHR_PASSWORD", PASSWORD)
    ehr.make_slot()
    connectors.snapshot("cdw-ehr")
    wait_for(kafka, "patients", 3)
    assert said(connectors) == []
    assert f"  {PREFIX}patients: written to" in connectors.show()

    worker.kill()
    with pytest.raises(CdwError, match="Kafka Connect does not answer"):
        connectors.check()
