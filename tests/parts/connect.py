"""A Kafka Connect worker as hospitals run it: distributed, its offsets and settings kept in Kafka."""

import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGTERM
from types import TracebackType
from typing import Any, Self

from tests.parts import jars
from tests.parts.kafka import Cluster
from tests.parts.process import LOCALHOST, Process, free_port

_SETTINGS: Mapping[str, str] = {
    "group.id": "connect",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "config.storage.topic": "connect-configs",
    "offset.storage.topic": "connect-offsets",
    "status.storage.topic": "connect-status",
    "config.storage.replication.factor": "1",
    "offset.storage.replication.factor": "1",
    "status.storage.replication.factor": "1",
    "offset.storage.partitions": "1",
    "status.storage.partitions": "1",
    # Passwords and the like by ${env:NAME}, and nothing but what a connector needs.
    "config.providers": "env",
    "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
    "plugin.discovery": "service_load",
    "offset.flush.interval.ms": "500",
    # The group notices soon that a worker was killed, and gives its tasks to the next one at once.
    "session.timeout.ms": "3000",
    "heartbeat.interval.ms": "500",
    "scheduled.rebalance.max.delay.ms": "0",
}


class Worker:
    """One worker, at ``url``; what it did stays in Kafka when it ends."""

    def __init__(
        self,
        kafka: Cluster,
        folder: Path,
        plugins: Mapping[str, Sequence[str]],
        *,
        env: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        heap: str = "512m",
    ) -> None:
        """Make its folder; ``plugins`` are coordinates by name; ``env`` is what ``${env:NAME}`` reads."""
        port = free_port()
        self.url = f"http://{LOCALHOST}:{port}"
        self.env = dict(env or {})
        self._folder = folder
        for name, coordinates in plugins.items():
            jars.make_plugin(coordinates, folder / "plugins" / name)
        lines = {
            **_SETTINGS,
            **(settings or {}),
            "bootstrap.servers": kafka.bootstrap,
            "listeners": self.url,
            "plugin.path": str(folder / "plugins"),
        }
        (folder / "worker.properties").write_text("".join(f"{name}={lines[name]}\n" for name in lines))
        self._command = [
            jars.JAVA,
            f"-Xmx{heap}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            jars.classpath(jars.CONNECT),
            "org.apache.kafka.connect.cli.ConnectDistributed",
            str(folder / "worker.properties"),
        ]
        self._process: Process | None = None

    def start(self) -> None:
        """Start it and wait until it has read what was kept, and takes connectors."""
        self._process = Process(self._command, self._folder / "output", env={**os.environ, **self.env})
        self._process.wait_until(self._answers, "Kafka Connect answers")

    def _answers(self) -> bool:
        try:
            self.request("GET", "/connectors")
        except OSError:
            return False
        return True

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Ask its REST interface.

        Raises:
            OSError: it does not answer, or refuses (urllib.error.HTTPError).
        """
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read() or b"null")

    @property
    def process(self) -> Process:
        assert self._process is not None, "the worker has not been started"
        return self._process

    def kill(self) -> None:
        """kill -9."""
        self.process.end()

    def stop(self) -> None:
        """End it as an operator would."""
        self.process.end(SIGTERM)

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
