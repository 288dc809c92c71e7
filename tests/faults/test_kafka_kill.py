"""Killed anywhere in the load transaction: what was not committed is loaded again, and nothing twice."""

import signal
from collections.abc import Iterator

import pytest

from tests.faults.scene import Scene
from tests.parts.postgres import Server
from tests.parts.process import wait_until
from tests.parts.proxy import Proxy

POINTS = [
    "before:_move_position",  # the compare-and-set
    "after:_move_position",
    "after:_append",  # the rows
    "after:load",  # committed, and nobody told
]


def test_killed_at_each_point_of_the_transaction(scene: Scene) -> None:
    scene.feed.mixture(500)
    for times, point in enumerate(POINTS, 1):
        loader = scene.start(harm=f"{point}:SIGKILL:{times}", batch_records=20)
        assert loader.wait() == -signal.SIGKILL, point
        assert scene.faults(is_complete=False) == [], point
    scene.finish()


@pytest.mark.parametrize("step", ["commit", "close"])
def test_killed_while_duckdb_writes(duckdb_scene: Scene, step: str) -> None:
    duckdb_scene.feed.mixture(1_000)
    for times in (1, 3):
        loader = duckdb_scene.start(harm=f"within:{step}:SIGKILL:{times}")
        assert loader.wait() == -signal.SIGKILL
        assert duckdb_scene.faults(is_complete=False) == []
    duckdb_scene.finish()


def test_killed_while_the_server_commits(own_scene: Scene, own_postgres: Server) -> None:
    own_scene.feed.mixture(100)
    loader = own_scene.start()
    own_scene.wait_until_loaded(loader)
    # The server has written the commit, and waits for a standby that will never come.
    own_postgres.run("alter system set synchronous_standby_names = 'nobody'", "select pg_reload_conf()")
    own_scene.feed.produce(100)
    wait_until(
        lambda: own_postgres.rows("select 1 from pg_stat_activity where wait_event = 'SyncRep'"),
        "the loader's transaction sits in COMMIT",
    )
    loader.kill()
    successor = own_scene.start()
    successor.wait_for("\nplaced ", 4)
    own_postgres.run("alter system reset synchronous_standby_names", "select pg_reload_conf()")
    own_scene.feed.mixture(100)
    own_scene.wait_until_loaded(loader, successor)
    successor.stop()
    own_scene.finish()


@pytest.fixture
def proxy(own_postgres: Server) -> Iterator[Proxy]:
    with Proxy((own_postgres.host, own_postgres.port)) as proxy:
        yield proxy


@pytest.mark.parametrize("how", ["cut_before", "lose_answer_to"])
def test_a_commit_that_is_not_known_to_be_done(own_scene: Scene, proxy: Proxy, how: str) -> None:
    own_scene.feed.mixture(100)
    loader = own_scene.loaders.start(PGPORT=proxy.port)
    own_scene.wait_until_loaded(loader)
    for _ in range(3):
        getattr(proxy, how)(b"COMMIT")
        own_scene.feed.produce(50)
        proxy.wait_for_cut()
        own_scene.wait_until_loaded(loader)
    assert "the connection to Postgres was lost" in loader.words
    loader.stop()
    assert "\nplaced " not in loader.words.partition("waiting")[2], "it has not lost its place"
    own_scene.finish()
