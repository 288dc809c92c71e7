"""What the gate lets through, both warehouses take, and every leaf of it reads alike in both."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders.gate import Gate
from loaders.profile import DuckdbTarget, PostgresTarget
from loaders.topics import load_topics
from loaders.warehouse.duckdb import DuckdbWarehouse
from loaders.warehouse.postgres import PostgresWarehouse
from loaders.warehouse.protocol import Batch, Partition, Record
from tests.conftest import Postgres

TOPICS = load_topics(Path(__file__).resolve().parents[2])
TOPIC = TOPICS["device.telemetry"]
GATE = Gate(TOPIC, 4_000_000)
# The form in which the models take a number.
NUMBER = re.compile(r"-?\d{1,11}(\.\d+)?([eE][+-]?\d{1,2})?")

Leaf = tuple[list[str], object]


class Pair:
    """One warehouse of each kind, given the same batches."""

    def __init__(self, duck: DuckdbWarehouse, postgres: PostgresWarehouse) -> None:
        self.duck = duck
        self.postgres = postgres
        self.offset = 0
        self.head: str | None = None

    def load(self, records: list[bytes]) -> None:
        first, self.offset = self.offset, self.offset + len(records)
        batch = Batch(
            partition=Partition("test", TOPIC, "test", 0),
            first_offset=first,
            next_offset=self.offset,
            rows=[Record(first + index, record) for index, record in enumerate(records)],
            rejects=[],
            explained_count=0,
            byte_count=sum(map(len, records)),
            sha256="0" * 64,
            previous_sha256=self.head,
            loaded_at=datetime(2026, 1, 1),
        )
        self.head = batch.sha256
        for warehouse in (self.duck, self.postgres):
            warehouse.load([batch])

    def read(self, offset: int, path: list[str]) -> tuple[str | None, str | None]:
        """A leaf as text, by each warehouse's own ->> way."""
        pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)
        sql = "select payload {} %s from raw.device_telemetry where _offset = %s"
        with self.duck._transaction():
            ours = self.duck._execute(sql.format("->>"), (pointer, offset))
        theirs = self.postgres._connection.execute(sql.format("#>>"), (path, offset)).fetchall()
        return ours[0][0], theirs[0][0]

    def text(self, offset: int) -> list[object]:
        sql = "select payload::text from raw.device_telemetry where _offset = %s"
        with self.duck._transaction():
            return [self.duck._execute(sql, (offset,))[0][0], self.postgres._execute(sql, (offset,))[0][0]]


@pytest.fixture(scope="module")
def pair(postgres_module: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    target = PostgresTarget(
        host=postgres_module.host,
        port=postgres_module.port,
        user=postgres_module.user,
        dbname=postgres_module.dbname,
    )
    file = tmp_path_factory.mktemp("gate") / "warehouse.duckdb"
    with DuckdbWarehouse(DuckdbTarget(path=file)) as duck, PostgresWarehouse(target) as postgres:
        for warehouse in (duck, postgres):
            warehouse.prepare(list(TOPICS.values()))
        yield Pair(duck, postgres)


def leaves(value: object, path: list[str]) -> Iterator[Leaf]:
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from leaves(entry, [*path, key])
    elif isinstance(value, list) and value:
        for index, entry in enumerate(value):
            yield from leaves(entry, [*path, str(index)])
    else:
        yield path, value


class Number(str):
    """A number with fraction or exponent, as written."""


digits = st.text("0123456789", min_size=1, max_size=22).map(lambda text: text.lstrip("0") or "0")
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "-"]),
        digits,
        st.sampled_from(["", ".0", ".10", ".5", ".000001", ".30000000000000004", ".123456789012345678"]),
        st.just("") | st.from_regex(r"[eE][+-]?[0-9]{1,3}", fullmatch=True),
    ),
    st.decimals(min_value=-(10**12), max_value=10**12, places=6).map(str),
    st.integers(-(10**40), 10**40).map(str),
)
letters = st.one_of(
    st.characters(codec="utf-8").filter(lambda letter: letter >= " " and letter not in '"\\'),
    st.sampled_from(["\\n", "\\t", "\\r", '\\"', "\\\\", "\\/", "\\b", "\\f", "\u2028", "\ufeff", "\uffff"]),
    st.builds("\\u{:04x}".format, st.integers(0, 0xFFFF)),
    st.builds("\\ud83d\\u{:04X}".format, st.integers(0xDC00, 0xDFFF)),
)
strings = st.lists(letters, max_size=12).map(lambda parts: '"' + "".join(parts) + '"')
white = st.sampled_from(["", "", "", " ", "\t", "\r", " \r "])
values = st.recursive(
    st.one_of(strings, numbers, st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.builds(
            lambda items, gap: "[" + f"{gap},".join(items) + gap + "]", st.lists(inner, max_size=4), white
        ),
        st.builds(
            lambda items, gap: "{" + ",".join(f"{key}{gap}:{gap}{item}" for key, item in items) + "}",
            st.lists(st.tuples(strings, inner), max_size=4),
            white,
        ),
    ),
    max_leaves=12,
)
records = st.builds(
    lambda items, gap: (
        gap + "{" + f",{gap}".join(f"{key}:{item}" for key, item in items) + "}" + gap
    ).encode(),
    st.lists(st.tuples(strings, values), min_size=1, max_size=5),
    white,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records, min_size=1, max_size=5))
def test_what_passes_reads_alike(pair: Pair, lines: list[bytes]) -> None:
    passed = [line for line in lines if GATE.check(line) is None]
    first = pair.offset
    if passed:
        pair.load(passed)
    for offset, line in enumerate(passed, first):
        assert pair.text(offset) == [line.decode()] * 2
        for path, value in leaves(json.loads(line, parse_float=Number, parse_int=str), []):
            ours, theirs = pair.read(offset, path)
            if isinstance(value, Number):
                assert ours is not None
                assert theirs == value
                assert NUMBER.fullmatch(ours), (ours, theirs)
                assert NUMBER.fullmatch(theirs), (ours, theirs)
                assert Decimal(ours) == Decimal(theirs)
            else:
                if isinstance(value, dict | list):
                    ours, theirs = (text and re.sub(r"\s", "", text) for text in (ours, theirs))
                assert ours == theirs
            if isinstance(value, str):
                assert isinstance(value, Number) or ours == value


def test_the_test_sees_what_would_not_read_alike(pair: Pair) -> None:
    for line in (b'{"a":-0}', b'{"a":1e15}', b'{"a":12345678901.123456}'):
        assert GATE.check(line) == "E_NUMBER"
        pair.load([line])
        ours, theirs = pair.read(pair.offset - 1, ["a"])
        assert ours != theirs
