"""A schema registry that speaks Confluent's protocol: Apicurio's, its schemas in a file that outlives it."""

import os
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.parts import jars
from tests.parts.process import LOCALHOST, Process, free_port


class Registry:
    """One registry, for clients at ``url``."""

    def __init__(self, folder: Path) -> None:
        """Prepare one whose schemas stay in ``folder``."""
        port = free_port()
        self.url = f"http://{LOCALHOST}:{port}/apis/ccompat/v7"
        self._folder = folder
        self._env = {
            "QUARKUS_HTTP_HOST": LOCALHOST,
            "QUARKUS_HTTP_PORT": str(port),
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "h2",
            # What was answered is on disk: it may be killed the moment after.
            "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{folder}/schemas;WRITE_DELAY=0",
        }
        self._command = [
            jars.JAVA,
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-jar",
            str(jars.unpacked(*jars.REGISTRY) / "quarkus-run.jar"),
        ]
        self._process: Process | None = None

    def start(self) -> None:
        """Start it, if it is not running, and wait until it answers."""
        if self._process is None or not self._process.is_alive():
            self._process = Process(self._command, self._folder / "output", env={**os.environ, **self._env})
            self._process.wait_until(self._answers, "the schema registry answers")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None, "the registry has not been started"
        self._process.end()

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill it."""
        if self._process and self._process.is_alive():
            self.kill()
