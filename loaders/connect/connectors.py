"""Connectors as files describe them (``{"name": …, "config": {…}}``), and as Kafka Connect runs them."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from loaders.connect import ehr
from loaders.connect.rest import Rest
from loaders.connect.words import Words, in_words
from loaders.errors import CdwError
from loaders.settings import load_settings, project_dir
from loaders.topics import load_topics

FOLDER = Path("deploy") / "connect"

_POSTGRES = "io.debezium.connector.postgresql.PostgresConnector"
_WAIT_SECONDS = 60.0
_FAILED_SECONDS = 5.0
_PAUSE_SECONDS = 0.5
_RUNNING = "RUNNING"


@dataclass(frozen=True, slots=True)
class Connector:
    """A connector as a file describes it."""

    file: Path
    name: str
    config: Mapping[str, str]

    @property
    def topics(self) -> list[str]:
        """The topics that a Debezium source writes to."""
        tables = self.config.get("table.include.list", "").split(",")
        return [f"{self.config['topic.prefix']}.{table}" for table in tables if table]

    @property
    def kind(self) -> str:
        """The class that does the work."""
        return self.config["connector.class"]


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a connector, or (``number`` None) what starts its tasks."""

    number: int | None
    state: str
    worker: str
    trace: str


class Connectors:
    """The connectors of some files, on one Kafka Connect."""

    def __init__(self, files: Sequence[Path] = ()) -> None:
        """Read the files: by default those of deploy/connect in the project.

        Raises:
            CdwError: a file cannot be read or is no connector.
        """
        settings = load_settings()
        project = project_dir(settings)
        self._known_topics = load_topics(project)
        self._rest = Rest(settings.connect_url)
        self._connectors = [_read(file) for file in files or sorted((project / FOLDER).glob("*.json"))]

    def register(self) -> list[str]:
        """Give the connectors the settings of their files, and wait until they run.

        Raises:
            CdwError: a setting cannot be used, the database (where it can be looked into) is not ready, or a
                connector does not run.
        """
        for connector in self._connectors:
            self._look_first(connector)
            self._rest.ask("PUT", "connectors", connector.name, "config", body=dict(connector.config))
            # One that failed or was stopped before stays as it is, whatever its settings are now.
            self._rest.ask("PUT", "connectors", connector.name, "resume")
            self._rest.ask("POST", "connectors", connector.name, "restart?includeTasks=true&onlyFailed=true")
            self._wait_until_it_runs(connector)
        return self.show()

    def snapshot(self, name: str) -> list[str]:
        """Let a connector forget its position, so that it reads its tables anew, and then their changes.

        Raises:
            CdwError: there is no such connector, its database is not ready, or it does not run afterwards.
        """
        connector = next((each for each in self._connectors if each.name == name), None)
        if connector is None or not self._tasks(connector):
            raise CdwError(
                f"connector {name} is not registered",
                where=self._rest.url,
                do="choose one that cdw connect show names; a new one reads its tables anyway",
            )
        self._look_first(connector)
        self._rest.ask("PUT", "connectors", name, "stop")
        self._wait(connector, lambda tasks: [task.state for task in tasks] == ["STOPPED"], "stop")
        self._rest.ask("DELETE", "connectors", name, "offsets")
        self._rest.ask("PUT", "connectors", name, "resume")
        self._wait_until_it_runs(connector)
        return self.show()

    def show(self) -> list[str]:
        """Each connector, its tasks and its topics, for people."""
        lines = []
        for connector in self._connectors:
            tasks = self._tasks(connector)
            lines.append(f"{connector.name}: {_states(tasks) if tasks else 'not registered'}")
            if not tasks:
                continue
            changed = self._changed(connector)
            where = _relative(connector.file)
            lines.append(
                f"  settings: other than in {where}: {', '.join(changed)}"
                if changed
                else f"  settings: {where}"
            )
            seen = self._seen_topics(connector)
            lines += [
                f"  {topic}: {'written to' if topic in seen else 'nothing yet'}" for topic in connector.topics
            ]
        return lines

    def check(self) -> tuple[list[str], list[CdwError]]:
        """What was looked at, and all that is wrong."""
        notes = []
        errors = []
        for connector in self._connectors:
            if missing := _unknown(connector):
                notes.append(
                    f"{connector.name}: the database was not looked into ({', '.join(missing)} not set here)"
                )
            found = list(self._problems(connector))
            errors += [self._error(connector, words) for words in found]
            if not found:
                notes.append(f"{connector.name}: nothing wrong")
        return notes, errors

    def _problems(self, connector: Connector) -> Iterator[Words]:
        yield from self._unread_topics(connector)
        tasks = self._tasks(connector)
        yield from self._unready(connector, is_registered=bool(tasks))
        if not tasks:
            yield Words("it is not registered", f"cdw connect register {_relative(connector.file)}")
            return
        if changed := self._changed(connector):
            yield Words(
                f"it runs with other settings than its file: {', '.join(changed)}",
                f"cdw connect register {_relative(connector.file)}, or mend the file",
            )
        if tasks[0].state in {"PAUSED", "STOPPED"}:
            yield Words(
                f"it is {tasks[0].state.lower()}", f"cdw connect register {_relative(connector.file)}"
            )
        yield from _failures(tasks)

    def _look_first(self, connector: Connector) -> None:
        for words in self._unready(connector, is_registered=False):
            raise self._error(connector, words)

    def _unready(self, connector: Connector, *, is_registered: bool) -> Iterator[Words]:
        """What is wrong with the settings, or, where they lead to a database, with that."""
        invalid = list(self._invalid(connector))
        yield from invalid
        if connector.kind == _POSTGRES and not invalid and not _unknown(connector):
            yield from ehr.find_problems(connector.config, is_registered=is_registered)

    def _unread_topics(self, connector: Connector) -> Iterator[Words]:
        for topic in connector.topics:
            if topic not in self._known_topics:
                yield Words(
                    f"cdw load does not read topic {topic}",
                    "give it a table in vars.topics of dbt_project.yml, or mend topic.prefix",
                )

    def _invalid(self, connector: Connector) -> Iterator[Words]:
        """What Kafka Connect finds wrong with the settings; it tries to reach the database with them."""
        plugins = cast(list[dict[str, Any]], self._rest.ask("GET", "connector-plugins"))
        if connector.kind not in {plugin["class"] for plugin in plugins}:
            yield Words(
                f"Kafka Connect has no plugin {connector.kind}", "put it on the plugin.path of all workers"
            )
            return
        body = {**connector.config, "name": connector.name}
        answer = self._rest.ask("PUT", "connector-plugins", connector.kind, "config", "validate", body=body)
        values = [each["value"] for each in cast(dict[str, Any], answer)["configs"]]
        for value in values:
            if not value["errors"]:
                continue
            said = " ".join(value["errors"])
            # Of the database it tells under one of its settings, whichever is at fault.
            if "validating connector config" in said:
                yield in_words(said)
            else:
                yield Words(
                    f"setting {value['name']} cannot be used",
                    f"mend it in {_relative(connector.file)}; ${{env:NAME}} stands for a variable that all "
                    "workers of Kafka Connect must have, and config.providers=env with them",
                )

    def _tasks(self, connector: Connector) -> list[Task]:
        """The connector and its tasks; none where it is not registered."""
        status = cast(dict[str, Any] | None, self._rest.ask("GET", "connectors", connector.name, "status"))
        if status is None:
            return []
        parts = [{"id": None, **status["connector"]}, *status["tasks"]]
        return [Task(part["id"], part["state"], part["worker_id"], part.get("trace") or "") for part in parts]

    def _changed(self, connector: Connector) -> list[str]:
        """The settings that are not as in the file."""
        running = cast(dict[str, str], self._rest.ask("GET", "connectors", connector.name, "config") or {})
        asked = {**connector.config, "name": connector.name}
        return sorted(name for name in asked.keys() | running.keys() if asked.get(name) != running.get(name))

    def _seen_topics(self, connector: Connector) -> set[str]:
        answer = cast(dict[str, Any], self._rest.ask("GET", "connectors", connector.name, "topics") or {})
        return set(answer.get(connector.name, {}).get("topics", ()))

    def _wait_until_it_runs(self, connector: Connector) -> None:
        def is_running(tasks: Sequence[Task]) -> bool:
            return len(tasks) > 1 and all(task.state == _RUNNING for task in tasks)

        self._wait(connector, is_running, "run")

    def _wait(self, connector: Connector, is_so: Callable[[Sequence[Task]], bool], what: str) -> None:
        """Wait for a state, for a shorter time where the tasks have failed: they may be from before."""
        begun = time.monotonic()
        while not is_so(tasks := self._tasks(connector)):
            waited = time.monotonic() - begun
            for words in _failures(tasks):
                if waited > _FAILED_SECONDS:
                    raise self._error(connector, words)
            if waited > _WAIT_SECONDS:
                words = Words(
                    f"it does not {what}: {_states(tasks)}",
                    "see the log of Kafka Connect's worker, then again",
                )
                raise self._error(connector, words)
            time.sleep(_PAUSE_SECONDS)

    def _error(self, connector: Connector, words: Words) -> CdwError:
        return CdwError(words.what, where=f"connector {connector.name} at {self._rest.url}", do=words.do)


def _unknown(connector: Connector) -> list[str]:
    """The variables without which its database cannot be looked into."""
    return ehr.missing_variables(connector.config) if connector.kind == _POSTGRES else []


def _failures(tasks: Sequence[Task]) -> Iterator[Words]:
    return (in_words(task.trace) for task in tasks if task.state == "FAILED")


def _states(tasks: Sequence[Task]) -> str:
    if not tasks:
        return "not there"
    first, *others = tasks
    words = [first.state] + [f"task {task.number} {task.state} on {task.worker}" for task in others]
    return ", ".join(words)


def _relative(file: Path) -> str:
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def _read(file: Path) -> Connector:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        config = {str(name): str(value) for name, value in content["config"].items()}
        return Connector(file.absolute(), str(content["name"]), config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CdwError(
            "this is no connector",
            where=str(file),
            do='name a JSON file with {"name": …, "config": {…}}, as in deploy/connect',
        ) from None
