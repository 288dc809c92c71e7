"""How old the oldest unloaded record is, and since when nothing is known: from what librdkafka reports."""

import json

import pytest

from loaders.errors import AwayError
from loaders.health import Pulse
from loaders.kafka.cluster import KafkaAwayError, Key
from loaders.kafka.load import Observer
from loaders.kafka.registry import RegistryAwayError
from loaders.kafka.statistics import KnownEnd, Statistics, read_statistics
from loaders.kafka.watch import Held, Standing, View, Watch

KEY = Key("t", 0)
OTHER = Key("t", 1)


def report(
    at: float, end: int, *, is_now: bool = True, is_member: bool = True, withheld: int = 0
) -> Statistics:
    return Statistics(at, is_member, {KEY: KnownEnd(end, at, is_now, withheld)})


def look(
    watch: Watch, now: float, position: int, reached: int = 0, first_at: float | None = None
) -> Standing:
    held = {KEY: Held(position, max(position, reached), first_at)}
    return watch.view(held, (), now).partitions[KEY]


@pytest.fixture
def watch() -> Watch:
    """One partition, taken up at 100."""
    watch = Watch(100)
    look(watch, 100, 5)
    return watch


def test_before_anything_is_heard(watch: Watch) -> None:
    assert look(watch, 110, 5) == Standing(5, None, None, 100)
    # Fetched is known, even so.
    assert look(watch, 110, 5, 7, first_at=90) == Standing(5, None, 90, 100)
    assert look(watch, 110, 5, 7) == Standing(5, None, 100, 100)


def test_idle(watch: Watch) -> None:
    for at in (101, 102, 900):
        watch.hear(report(at, 5))
        assert look(watch, at, 5) == Standing(5, 5, None, at)
    # Nothing heard any more.
    assert watch.view({KEY: Held(5, 5, None)}, (), 2_000).known_at == 900


def test_a_backlog_is_as_old_as_kafka_says(watch: Watch) -> None:
    watch.hear(report(101, 50))
    assert look(watch, 101, 5) == Standing(5, 50, 100, 101)
    assert look(watch, 102, 5, 30, first_at=20) == Standing(5, 50, 20, 101)
    assert look(watch, 102, 5, 30, first_at=20).lag == 45


def test_no_record_is_older_than_the_moment_when_all_was_loaded(watch: Watch) -> None:
    watch.hear(report(200, 5))
    look(watch, 200, 5)
    # Its sender's clock says 20; it was not there at 200.
    assert look(watch, 210, 5, 6, first_at=20).since == 200
    assert look(watch, 210, 5, 6, first_at=205).since == 205
    # There, by the report, and not fetched.
    watch.hear(report(220, 6))
    assert look(watch, 220, 5).since == 200
    # The report is older than what was loaded since.
    assert look(watch, 221, 8) == Standing(8, 8, None, 220)


def test_a_busy_partition_is_known_to_be_loaded_up_to_a_time(watch: Watch) -> None:
    for second in range(10):
        watch.hear(report(200 + second, 10 * (second + 1)))
        look(watch, 200 + second, 5)
    # All that was there at 204 is loaded, not all that was there at 205.
    assert look(watch, 210, 55, 60, first_at=20).since == 204


def test_an_end_that_was_not_asked_for_again_is_no_end(watch: Watch) -> None:
    watch.hear(report(200, 5))
    watch.hear(report(300, 50, is_now=False))
    assert look(watch, 300, 5) == Standing(5, 50, 200, 300)
    assert look(watch, 301, 50, 51, first_at=20).since == 200


def test_what_stands_behind_an_open_transaction_waits(watch: Watch) -> None:
    watch.hear(report(200, 5))
    look(watch, 200, 5)
    for at in (201, 300):
        watch.hear(report(at, 5, withheld=20))
        assert look(watch, at, 5) == Standing(5, 5, 200, at, 20)
    assert look(watch, 300, 5).lag == 0
    # It has ended; most of it is loaded.
    watch.hear(report(301, 27))
    assert look(watch, 301, 26) == Standing(26, 27, 300, 301)
    assert look(watch, 301, 27) == Standing(27, 27, None, 301)


def test_a_partition_that_was_given_away_is_begun_anew(watch: Watch) -> None:
    watch.hear(report(200, 5))
    assert watch.view({}, (), 201) == View(201, 200, {})
    assert look(watch, 210, 5) == Standing(5, None, None, 210)


def test_what_is_not_known_since_when(watch: Watch) -> None:
    watch.hear(report(200, 5))
    held = {KEY: Held(5, 5, None)}
    assert watch.view(held, (), 205).known_at == 200
    # A partition that waits for its position.
    assert watch.view(held, [OTHER], 206).known_at == 200
    watch.hear(report(300, 5))
    assert watch.view(held, [OTHER], 300).known_at == 206
    assert watch.view(held, [], 301).known_at == 300
    # A group that is being rebalanced, or has no coordinator.
    watch.hear(report(400, 5, is_member=False))
    assert watch.view(held, [], 401).known_at == 300
    # The group is well, and nobody speaks for the partition.
    watch.hear(Statistics(500, is_member=True, ends={}))
    assert watch.view(held, [], 501).known_at == 400
    # An older report is no news.
    watch.hear(report(350, 7))
    assert watch.view(held, [], 401).partitions[KEY] == Standing(5, 5, None, 400)


def statistics(**more: object) -> str:
    partition = {
        "broker": 1,
        "fetch_state": "active",
        "fetchq_cnt": 0,
        "ls_offset": 7,
        "hi_offset": 7,
        **more,
    }
    return json.dumps(
        {
            "time": 1_000,
            "brokers": {
                "a": {"nodeid": 1, "rxidle": 500_000},
                "b": {"nodeid": 2, "rxidle": -1},
                "boot": {"nodeid": -1, "rxidle": 1},
            },
            "topics": {"t": {"topic": "t", "partitions": {"0": partition}}},
            "cgrp": {"state": "up", "join_state": "steady"},
        }
    )


def test_what_librdkafka_reports() -> None:
    assert read_statistics(statistics()) == Statistics(1_000, True, {KEY: KnownEnd(7, 999.5, True)})
    assert not read_statistics(statistics(fetchq_cnt=3)).ends[KEY].is_now
    assert read_statistics(statistics(hi_offset=9)).ends[KEY] == KnownEnd(7, 999.5, True, 2)
    assert read_statistics(statistics(hi_offset=-1001)).ends[KEY].withheld == 0
    for fault in ({"broker": 2}, {"broker": -1}, {"broker": 3}, {"ls_offset": -1}, {"fetch_state": "none"}):
        assert read_statistics(statistics(**fault)).ends == {}
    for state in ("wait-coord", "init"):
        assert not read_statistics(statistics().replace('"up"', f'"{state}"')).is_member
    assert not read_statistics(statistics().replace('"steady"', '"wait-join"')).is_member


@pytest.mark.parametrize(
    ("known_for", "waiting_since", "is_well"),
    [(0, None, True), (9, 9, True), (0, 11, False), (11, None, False), (11, 11, False), (0, -5, True)],
)
def test_health(
    monkeypatch: pytest.MonkeyPatch, known_for: float, waiting_since: float | None, is_well: bool
) -> None:
    pulse = Pulse(10)
    since = None if waiting_since is None else 1_000 - waiting_since
    pulse.seen(View(1_000, 1_000 - known_for, {KEY: Standing(1, 2, since, 1_000 - known_for)}))
    monkeypatch.setattr("time.time", lambda: 1_000.0)
    assert pulse.health().is_well == is_well
    # Whatever it was: a thread that tells nothing more is not well for long.
    monkeypatch.setattr("time.time", lambda: 1_010.5)
    assert not pulse.health().is_well


@pytest.mark.parametrize(("known_for", "waiting_for"), [(9, None), (11, "kafka")])
def test_a_kafka_that_is_not_heard_of_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, known_for: float, waiting_for: str | None
) -> None:
    pulse = Pulse(300)
    pulse.seen(View(1_000, 1_000 - known_for, {}))
    # A thread that is busy since hears nothing either: that is nobody's fault.
    monkeypatch.setattr("time.time", lambda: 1_100.0)
    assert pulse.waiting_for() == waiting_for
    for error in (AwayError, KafkaAwayError, RegistryAwayError):
        pulse.waiting(error("x", where="y", do="z"))
        assert pulse.waiting_for() == error.part
    assert (AwayError.part, KafkaAwayError.part, RegistryAwayError.part) == ("warehouse", "kafka", "registry")
    pulse.resumed()
    assert pulse.waiting_for() == waiting_for


def test_a_loader_that_never_sees_anything_is_not_well_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    pulse: Observer = Pulse(10)
    assert isinstance(pulse, Pulse)
    assert pulse.health().is_well
    now = pulse.view.known_at
    monkeypatch.setattr("time.time", lambda: now + 11)
    assert not pulse.health().is_well
