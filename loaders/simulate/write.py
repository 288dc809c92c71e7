"""Write a simulation as a topic directory, or to Kafka. All that the simulator touches is here."""

import csv
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from loaders.errors import CdwError
from loaders.hl7.publish import HL7_TOPICS, publish_place
from loaders.hl7.stream import Options, places
from loaders.kafka.outgoing import Outgoing
from loaders.kafka.producer import Outbox
from loaders.kafka.topics import ensure_topics
from loaders.settings import Settings
from loaders.simulate import debezium, ward
from loaders.simulate.config import Config
from loaders.simulate.registry import registry_changes
from loaders.simulate.scenario import Scenario, plan
from loaders.simulate.stream import TELEMETRY_TOPIC, telemetry
from loaders.simulate.times import HOUR, hl7_time, iso

FILE_COVERS = 6 * HOUR
LINES_A_REPORT = 20_000

Progress = Callable[[str, float], None]
"""Is told what is being written and how much of it is done, from 0 to 1."""


def simulate(config: Config, out: Path, progress: Progress) -> dict[str, int]:
    """Write topics, HL7 files and the list of defects into ``out``; give the number of records of each.

    ``<topic>.jsonl`` as ``cdw load --from`` reads them, ``hl7/*.hl7`` for ``cdw decode``, and
    ``defects.csv`` (defect, device_id, metric, started_at, ended_at): what was done to whom.
    Raises CdwError if the directory is in use, cannot be written, or a defect does not fit the window.
    """
    scenario = plan(config)
    try:
        prepare(out)
        counts = write_registry(scenario, out)
        counts[TELEMETRY_TOPIC] = write_telemetry(scenario, out, progress)
        counts["hl7"] = write_hl7(scenario, out / "hl7", progress)
        counts["defects"] = write_defects(scenario, out / "defects.csv")
    except OSError as error:
        raise CdwError(
            f"cannot write the simulation: {error.strerror}",
            where=str(error.filename or out),
            do="choose a directory with --out that can be written and has room, and remove what is half done",
        ) from error
    return counts


def simulate_to_kafka(config: Config, settings: Settings, progress: Progress) -> dict[str, int]:
    """Publish what ``simulate`` writes, but for the list of defects; give the number of records of each.

    Messages go the way of ``cdw ingest``. Raises CdwError if a defect does not fit the window, or Kafka does
    not take everything.
    """
    scenario = plan(config)
    topics = [*map(debezium.topic, debezium.TABLES), TELEMETRY_TOPIC]
    counts = dict.fromkeys([*topics, "hl7"], 0)
    ensure_topics(settings, [*topics, *HL7_TOPICS])
    with Outbox(settings) as outbox:
        for record in chain(debezium.envelopes(registry(scenario)), arriving(scenario, progress)):
            outbox.put([record])
            counts[record.topic] += 1
        messages = (message.er7 for message in ward.feed(scenario))
        for er7 in chain(messages, ward.broken(scenario)):
            options = Options("simulation", settings.hl7_fallback_charset, settings.max_record_bytes)
            for place in places([er7], options):
                outbox.put(publish_place(place, options).records)
            counts["hl7"] += 1
    progress("hl7", 1.0)
    return counts


def prepare(out: Path) -> None:
    """Make the directory; raise CdwError if it already holds topics or messages."""
    taken = [*out.glob("*.jsonl"), *out.glob("hl7/*.hl7"), *out.glob("defects.csv")]
    if taken:
        raise CdwError(
            f"the directory already holds {len(taken)} file(s) of topics or messages",
            where=str(out),
            do="choose another directory with --out, or remove this one first",
        )
    (out / "hl7").mkdir(mode=0o700, parents=True, exist_ok=True)


def registry(scenario: Scenario) -> list[debezium.Change]:
    """All changes of the EHR's tables."""
    changes = registry_changes(scenario.config, scenario.devices, scenario.courses)
    return changes + [change for course in scenario.courses for change in course.changes]


def write_registry(scenario: Scenario, out: Path) -> dict[str, int]:
    """Write the changes of the EHR's tables; give the number of lines of each topic."""
    changes = registry(scenario)
    counts = {debezium.topic(table): 0 for table in debezium.TABLES}
    with ExitStack() as stack:
        files = {topic: stack.enter_context((out / f"{topic}.jsonl").open("wb")) for topic in counts}
        for topic, _, value in debezium.envelopes(changes):
            files[topic].write((value or b"null") + b"\n")
            counts[topic] += 1
    return counts


def write_telemetry(scenario: Scenario, out: Path, progress: Progress) -> int:
    """Write the readings of all devices in order of arrival; give the number of lines."""
    count = 0
    with (out / f"{TELEMETRY_TOPIC}.jsonl").open("wb", buffering=1 << 20) as file:
        for record in arriving(scenario, progress):
            assert record.value is not None
            file.write(record.value + b"\n")
            count += 1
    return count


def arriving(scenario: Scenario, progress: Progress) -> Iterator[Outgoing]:
    """The readings of all devices in order of arrival, with a word on how far that is."""
    config = scenario.config
    for count, (arrived_at, record) in enumerate(telemetry(scenario), 1):
        yield record
        if count % LINES_A_REPORT == 0:
            done = (arrived_at - config.starts_at) / (config.ends_at - config.starts_at)
            progress(TELEMETRY_TOPIC, min(1.0, done))
    progress(TELEMETRY_TOPIC, 1.0)


def write_hl7(scenario: Scenario, out: Path, progress: Progress) -> int:
    """Write the HL7 feed, one file a message type and six hours, then the broken messages, each its own."""
    count = 0
    for message in ward.feed(scenario):
        name = f"{message.message_type.lower()}-{hl7_time(message.at - message.at % FILE_COVERS)}.hl7"
        # Opened for each message: a year has more files than a process may hold open.
        with (out / name).open("ab") as file:
            file.write(message.er7)
        count += 1
    for number, er7 in enumerate(ward.broken(scenario), 1):
        (out / f"broken-{number}.hl7").write_bytes(er7)
        count += 1
    progress("hl7", 1.0)
    return count


def write_defects(scenario: Scenario, path: Path) -> int:
    """Write which defect each device has and when (UTC, ``[started_at, ended_at)``); give the number of rows.

    A defect of several metrics has a row each; one of the whole device has one row without a metric.
    """
    rows = [
        (one.name, one.device.device_id, metric, f"{iso(one.started_at)}Z", f"{iso(one.ended_at)}Z")
        for one in scenario.injections
        for metric in (one.metrics or ("",))
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("defect", "device_id", "metric", "started_at", "ended_at"))
        writer.writerows(sorted(rows))
    return len(rows)
