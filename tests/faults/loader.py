"""``cdw load`` as a child process; all that it ever says is kept."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conftest import PROJECT
from tests.parts.process import SECONDS, Process, wait_until


class Loader(Process):
    """A loader that runs; see ``tests.faults.kafka_child`` for ``harm``."""

    def __init__(
        self, output: Path, *arguments: str, harm: str = "none", env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            [sys.executable, "-m", "tests.faults.kafka_child", harm, *arguments],
            output,
            env={**os.environ, "PYTHONPATH": str(PROJECT), **(env or {})},
        )
        self._words = output

    @property
    def words(self) -> str:
        """All that it has said."""
        return self._words.read_text(errors="replace")

    @property
    def loaded(self) -> dict[tuple[str, int], int]:
        """Topic and partition -> the offset up to which it has committed."""
        found: dict[tuple[str, int], int] = {}
        for line in self.words.splitlines():
            match line.split():
                case ["loaded", topic, partition, offset]:
                    found[topic, int(partition)] = int(offset)
        return found

    def wait_for(self, words: str, times: int = 1) -> None:
        """Wait until it has said that so often."""
        self.wait_until(lambda: self.words.count(words) >= times, f"{words!r} {times} times")

    def wait_for_stop(self) -> None:
        """Wait until SIGSTOP holds it."""
        stat = Path(f"/proc/{self.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it stands still")

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        return self._child.wait(SECONDS)

    def stop(self) -> None:
        """End it as an operator would."""
        self.wait_for("running")
        self.send(signal.SIGTERM)
        assert self.wait() == 0, self.said()

    def kill(self) -> None:
        """kill -9, whatever state it is in."""
        self._child.kill()
        self._child.wait(SECONDS)


class Loaders:
    """Loaders of one warehouse and one Kafka, ended with the test."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = env
        self._all: list[Loader] = []

    def start(self, *arguments: str, harm: str = "none", **env: Any) -> Loader:
        """Start one; ``env`` are settings of its own (``batch_records=5``), or variables (``PGPORT=1``)."""
        own = {name if name.isupper() else f"CDW_{name.upper()}": str(value) for name, value in env.items()}
        output = self._folder / f"loader-{len(self._all)}"
        loader = Loader(output, "--start", "earliest", *arguments, harm=harm, env={**self._env, **own})
        self._all.append(loader)
        return loader

    def finish(self) -> None:
        """Load what is left, up to the end."""
        loader = self.start("--once")
        assert loader.wait() == 0, loader.said()

    def run(self, command: str) -> str:
        """Run another ``cdw`` command, which has to succeed; what it says."""
        done = subprocess.run(
            [sys.executable, "-c", "from loaders.cli import main; main()", *command.split()],
            env={**os.environ, **self._env},
            cwd=PROJECT,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def words(self) -> str:
        """All that any of them has said."""
        return "".join(loader.words for loader in self._all)

    def end(self) -> None:
        for loader in self._all:
            if loader.is_alive():
                loader.kill()
