"""What Kafka Connect says, put into words; and what its REST interface may answer."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from loaders.connect import rest
from loaders.connect.connectors import Connectors
from loaders.connect.rest import Rest
from loaders.connect.words import in_words
from loaders.errors import CdwError
from tests.conftest import PROJECT

SECRET = "MRN-4711"


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        ('FATAL: password authentication failed for user "x"', "does not let the connector in"),
        (
            'FATAL: no pg_hba.conf entry for replication connection from host "h"',
            "does not let the connector in",
        ),
        ('FATAL: database "x" does not exist', "no such database"),
        ("ERROR: logical decoding requires wal_level >= logical", "wal_level is not logical"),
        (
            "io.debezium.DebeziumException: Creation of replication slot failed\n"
            "Caused by: org.postgresql.util.PSQLException: FATAL: permission denied to start WAL sender",
            "no REPLICATION",
        ),
        ("ERROR: all replication slots are in use", "no replication slot, sender or connection left"),
        ('ERROR: replication slot "cdw" is active for PID 7', "reads the same replication slot"),
        ("ERROR: requested WAL segment 0001 has already been removed", "are gone from the EHR's Postgres"),
        ('ERROR: can no longer access replication slot "cdw"', "are gone from the EHR's Postgres"),
        ("but this is no longer available on the server. Reconfigure", "are gone from the EHR's Postgres"),
        ("Publication autocreation is disabled, please create one", "no such publication"),
        ("ERROR: permission denied for table prescriptions", "may not read a table"),
        (
            "org.apache.kafka.common.errors.RecordTooLargeException: The message is 20971520",
            "larger than Kafka takes",
        ),
        (
            "org.apache.kafka.common.errors.TopicAuthorizationException: Not authorized",
            "does not let Kafka Connect",
        ),
        ("Connection to ehr:5432 refused. Check that the hostname", "cannot be reached"),
        ("java.net.UnknownHostException: ehr", "cannot be reached"),
        (
            "org.apache.kafka.connect.errors.ConnectException: wrapped\n\tat x.Y.z(Y.java:1)\n"
            "Caused by: org.postgresql.util.PSQLException: ERROR: invalid input: {secret}\n\t... 9 more",
            "(PSQLException)",
        ),
        ("{secret}", "does not know"),
    ],
)
def test_a_trace_is_told_in_words_and_never_shown(trace: str, words: str) -> None:
    said = in_words(trace.replace("{secret}", SECRET))
    assert words in said.what
    assert SECRET not in "".join(said)


Answer = Callable[[int], tuple[int, bytes]]


@pytest.fixture
def connect() -> Iterator[tuple[str, list[Answer], list[BaseHTTPRequestHandler]]]:
    """The address of a stand-in for a worker, what it is to answer, and what it has been asked."""
    answers: list[Answer] = []
    asked: list[BaseHTTPRequestHandler] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self)
            code, body = answers[0](len(asked))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"127.0.0.1:{server.server_port}", answers, asked
        server.shutdown()
        thread.join()


Stub = tuple[str, list[Answer], list[BaseHTTPRequestHandler]]


def test_a_rebalance_is_waited_out(connect: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    address, answers, asked = connect
    monkeypatch.setattr(rest, "_PAUSE_SECONDS", 0.01)
    answers.append(lambda count: (200, b'["cdw-ehr"]') if count == 3 else (409, b"{}"))
    assert Rest(f"http://{address}/").ask("GET", "connectors") == ["cdw-ehr"]
    assert [each.path for each in asked] == ["/connectors"] * 3
    answers[0] = lambda count: (409, b"{}")
    monkeypatch.setattr(rest, "_PATIENCE_SECONDS", 0.1)
    with pytest.raises(CdwError, match="rebalancing"):
        Rest(f"http://{address}").ask("GET", "connectors")


def test_a_name_and_password_are_sent_and_never_said(connect: Stub) -> None:
    address, answers, asked = connect
    client = Rest(f"http://clerk:s3cret@{address}/connect")
    assert "s3cret" not in client.url
    answers.append(lambda count: (200, b"[]"))
    assert client.ask("GET", "connectors", "a/b") == []
    assert asked[0].headers["Authorization"] == "Basic Y2xlcms6czNjcmV0"
    assert asked[0].path == "/connect/connectors/a%2Fb"
    answers[0] = lambda count: (404, b"{}")
    assert client.ask("GET", "connectors", "none") is None
    for code, words in ((401, "lets nobody in"), (500, "HTTP 500")):
        answers[0] = lambda count, code=code: (code, SECRET.encode())  # type: ignore[misc]
        with pytest.raises(CdwError, match=words) as caught:
            client.ask("GET", "connectors")
        assert "s3cret" not in str(caught.value)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("answer", [b"<html>", b""])
def test_what_is_no_kafka_connect_is_told(connect: Stub, answer: bytes) -> None:
    address, answers, _ = connect
    answers.append(lambda count: (200, answer))
    if answer:
        with pytest.raises(CdwError, match="does not answer"):
            Rest(f"http://{address}").ask("GET", "connectors")
    else:
        assert Rest(f"http://{address}").ask("GET", "connectors") is None
    with pytest.raises(CdwError, match="no address"):
        Rest(address)


@pytest.mark.parametrize("content", ["", "[]", '{"name": "x"}', '{"name": "x", "config": []}'])
def test_a_file_that_is_no_connector_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("CDW_PROJECT_DIR", str(PROJECT))
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(CdwError, match="this is no connector"):
        Connectors([file])


def test_the_connectors_columns_are_those_the_models_read() -> None:
    config = json.loads((PROJECT / "deploy" / "connect" / "ehr.json").read_text())["config"]
    columns = {name.removeprefix("public.") for name in config["column.include.list"].split(",")}
    read = set()
    for table in ("patients", "devices", "prescriptions"):
        sql = (PROJECT / "models" / "staging" / "ehr" / f"stg_ehr__{table}.sql").read_text()
        for part in sql.split("'after', ")[1:]:
            read.add(f"{table}.{part.strip().split(chr(39))[1]}")
    assert columns == read
