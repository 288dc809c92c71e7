"""Loaders killed at random under load, and a ledger of everything produced: python -m tests.faults.soak

The decisions come from a seed; when a kill meets a loader is the machine's.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import PROJECT, DuckDB, Warehouse
from tests.faults.ledger import Fault, leaks
from tests.faults.loader import Loader
from tests.faults.scene import Scene, loader_env, make_scene
from tests.parts.kafka import Cluster
from tests.parts.postgres import Server
from tests.parts.process import wait_until

LOADERS = 3
# The steps at which a loader kills itself.
_POINTS = ["before:_move_position", "after:_move_position", "after:_append", "before:load", "after:load"]
_DUCKDB_POINTS = [*_POINTS, "within:commit", "within:close"]
# Longer than a session: the zombie's partitions are another's by then.
_ZOMBIE_SECONDS = 1.5
_PATIENCE_SECONDS = 5.0


@dataclass
class Outcome:
    """What a soak did, and what the ledger found."""

    kills: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    records: int = 0
    batches: int = 0
    is_leaking: bool = False

    @property
    def losses(self) -> int:
        return sum(fault.kind == "lost" for fault in self.faults)

    @property
    def repeats(self) -> int:
        return sum(fault.kind == "repeated" for fault in self.faults)

    @property
    def others(self) -> int:
        return len(self.faults) - self.losses - self.repeats + self.is_leaking

    def __str__(self) -> str:
        ways = ", ".join(f"{count} {way}" for way, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({ways}), {self.records} records in {self.batches} batches: "
            f"{self.losses} losses, {self.repeats} repeats, {self.others} other faults"
        )


class _Soak:
    """Some loaders that are fed, killed and started again."""

    def __init__(self, scene: Scene, seed: int | str) -> None:
        self._scene = scene
        self._chance = random.Random(seed)
        self._points = _DUCKDB_POINTS if scene.warehouse.target == "duckdb" else _POINTS
        self._loaders: list[Loader] = []
        self.kills: Counter[str] = Counter()

    def run(self, kills: int) -> None:
        self._loaders = [self._start() for _ in range(LOADERS)]
        while self.kills.total() < kills:
            self._scene.feed.mixture(self._chance.randrange(25, 150))
            number = self._chance.randrange(LOADERS)
            self._kill(self._loaders[number])
            self._loaders[number] = self._start()
        for loader in self._loaders:
            loader.kill()

    def _start(self) -> Loader:
        harm = "none"
        if self._chance.random() < 0.4:
            harm = f"{self._chance.choice(self._points)}:SIGKILL:{self._chance.randrange(1, 8)}"
        return self._scene.start(harm=harm, batch_records=self._chance.choice([5, 20, 100]))

    def _kill(self, loader: Loader) -> None:
        chance = self._chance.random()
        delay = self._chance.random() * 0.2
        if chance < 0.8:  # the others are killed wherever they are, be it before they have begun
            _wait(lambda: not loader.is_alive() or loader.loaded)
        if chance < 0.25 and loader.is_alive():
            loader.send(signal.SIGSTOP)
            self._scene.feed.mixture(50)
            time.sleep(_ZOMBIE_SECONDS)
            loader.send(signal.SIGCONT)
            way = "as zombies"
        else:
            way = "at random"
        time.sleep(delay)
        if not loader.is_alive():
            way = "at a point of the transaction"
            assert loader.wait() == -signal.SIGKILL, loader.said()
        loader.kill()
        self.kills[way] += 1


def _wait(is_so: Callable[[], object]) -> None:
    """Wait, but not for long: another loader may have all partitions."""
    with suppress(TimeoutError):
        wait_until(is_so, "", _PATIENCE_SECONDS)


def soak(scene: Scene, kills: int, seed: int | str) -> Outcome:
    """Kill loaders so often, load what is left, and look into the ledger."""
    run = _Soak(scene, seed)
    run.run(kills)
    scene.loaders.finish()
    [(batches,)] = scene.warehouse.rows("select count(*) from raw.load_batches")
    return Outcome(
        run.kills, scene.faults(), scene.ledger.record_count, batches, leaks(scene.loaders.words())
    )


@contextmanager
def _warehouses(folder: Path) -> Iterator[list[Warehouse]]:
    with (
        tempfile.TemporaryDirectory(prefix="cdw-postgres-", ignore_cleanup_errors=True) as data,
        Server(Path(data)) as server,
    ):
        yield [DuckDB(folder / "warehouse.duckdb"), server]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=None, help="one for each run where not given")
    parser.add_argument("--kills", type=int, default=200, help="of loaders, on each warehouse")
    options = parser.parse_args()
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    say(f"seed {seed}: {options.kills} kills on each warehouse, {LOADERS} loaders at once")
    for name in [name for name in os.environ if name.startswith(("CDW_", "PG", "DBT_"))]:
        del os.environ[name]
    is_well = True
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdw-soak-")))
        shutil.copy(PROJECT / "profiles.yml.example", folder / "profiles.yml")
        kafka = stack.enter_context(Cluster(folder / "kafka"))
        protocols = ["classic", "consumer"]
        random.Random(seed).shuffle(protocols)
        for warehouse, protocol in zip(stack.enter_context(_warehouses(folder)), protocols, strict=True):
            own = folder / warehouse.target
            own.mkdir()
            kafka.clean()
            env = {
                **loader_env(kafka.bootstrap, own, protocol),
                **warehouse.env,
                "CDW_TARGET": warehouse.target,
                "CDW_PROJECT_DIR": str(PROJECT),
                "DBT_PROFILES_DIR": str(folder),
            }
            scene = make_scene(warehouse, kafka, env, own, seed)
            begun = time.monotonic()
            try:
                outcome = soak(scene, options.kills, seed)
            finally:
                scene.loaders.end()
            say(f"{warehouse.target}, {protocol} group: {outcome}; {time.monotonic() - begun:.0f} seconds")
            for kind, place, offset in outcome.faults[:20]:
                say(f"  {kind}: {place.topic}, partition {place.partition}, offset {offset}")
            is_well &= not outcome.faults and not outcome.is_leaking
    sys.exit(0 if is_well else 1)


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
