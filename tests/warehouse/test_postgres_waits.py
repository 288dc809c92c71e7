"""Whom cdw waits for in Postgres is told, and what takes its time is let."""

import time
from pathlib import Path

import pytest

from loaders.errors import AwayError
from loaders.load import load_directory
from loaders.profile import find_target
from loaders.warehouse import open_warehouse, postgres
from loaders.warehouse.postgres import PostgresWarehouse
from tests.conftest import Postgres, use

IN_THE_WAY = "lock table raw.device_telemetry in share mode"


@pytest.fixture
def loaded(
    postgres: Postgres, profiles_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Postgres, Path]:
    """A warehouse that has a record, and a topic directory with one more."""
    use(postgres, profiles_dir, monkeypatch)
    file = tmp_path / "topics" / "device.telemetry.jsonl"
    file.parent.mkdir()
    file.write_bytes(b"{}\n")
    load_directory(file.parent)
    file.write_bytes(b"{}\n{}\n")
    return postgres, file.parent


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    options = postgres._OPTIONS.replace("lock_timeout=5s", "lock_timeout=100ms")
    monkeypatch.setattr(postgres, "_OPTIONS", options.replace("timeout=15s", "timeout=200ms"))


def test_a_loader_names_who_is_in_its_way_and_no_reader(loaded: tuple[Postgres, Path]) -> None:
    server, topics = loaded
    with server.connect() as reader, server.connect() as other:
        other.execute("set application_name = 'nightly report'")
        with reader.transaction(), other.transaction():
            reader.execute("select count(*) from raw.device_telemetry")
            other.execute(IN_THE_WAY)
            whose = rf"locked by PID {other.info.backend_pid} \(nightly report\); what was not loaded"
            with pytest.raises(AwayError, match=whose):
                load_directory(topics)
    assert load_directory(topics).rows == {"device.telemetry": 1}


def test_a_connection_lost_while_it_asks_for_whom_it_waits(
    loaded: tuple[Postgres, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, topics = loaded
    locked = PostgresWarehouse._locked

    def lose_connection(warehouse: PostgresWarehouse) -> AwayError:
        process = warehouse._connection.info.backend_pid
        assert server.rows(f"select pg_terminate_backend({process}, 60000)") == [(True,)]
        return locked(warehouse)

    monkeypatch.setattr(PostgresWarehouse, "_locked", lose_connection)
    with server.connect() as other, other.transaction():
        other.execute(IN_THE_WAY)
        with pytest.raises(AwayError, match="locked by another session"):
            load_directory(topics)
    assert load_directory(topics).rows == {"device.telemetry": 1}


@pytest.mark.usefixtures("loaded")
def test_maintenance_may_think_between_two_statements() -> None:
    with open_warehouse(find_target()) as opened:
        with opened.maintenance() as statements:
            statements.execute("select 1")
            time.sleep(0.5)  # as while it decodes, or asks a schema registry
            assert statements.execute("select 1") == [(1,)]
        assert opened.rows("show idle_in_transaction_session_timeout") == [("200ms",)]
