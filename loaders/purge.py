"""``cdw purge``: the only way raw shrinks. What went is counted in ``raw.load_batches``."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from loaders.books import Entry, Place, write_entry
from loaders.errors import CdwError
from loaders.patients import Finder, Identifier, is_in_key
from loaders.profile import Target
from loaders.topics import Topic, load_topics
from loaders.warehouse import open_warehouse
from loaders.warehouse.found import COORDINATES, Condition, Coordinates, Found
from loaders.warehouse.layout import REJECTS
from loaders.warehouse.statements import Statements

_MESSAGES, _REJECTED, _ORIGINALS = "raw.hl7_messages", "raw.hl7_rejected", "raw_restricted.hl7_originals"
_TELEMETRY = "raw.device_telemetry"
_ARRIVAL = "case when _timestamp_type = 'LogAppendTime' then _timestamp else _loaded_at end"
# A row before and after its change, in a Debezium envelope with its schema and without.
_IMAGES = tuple(
    f"({envelope}->'{image}')"
    for envelope in ("payload", "(payload->'payload')")
    for image in ("before", "after")
)


@dataclass(slots=True)
class Purged:
    """What a purge takes: rows and rejects by topic."""

    rows: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        """Whether it is anything."""
        return bool(self.rows or self.rejects)

    def as_lines(self) -> list[str]:
        """The counts for people."""
        lines = [f"{topic}: {count} rows" for topic, count in sorted(self.rows.items())]
        lines += [f"{topic}: {count} rejects" for topic, count in sorted(self.rejects.items())]
        return lines or ["nothing to purge"]


class _Part(NamedTuple):
    """What goes from one table."""

    table: str
    condition: Condition


Plan = Callable[[Statements], Iterator[_Part]]
"""Says in a transaction, part by part, what goes; each part is taken before the next is asked for."""


def before(time: datetime, project: Path, names: Sequence[str] = ()) -> Plan:
    """Plan to purge what arrived before a time (with a zone), of these topics or of all.

    Raises:
        CdwError: there is no such topic.
    """
    topics = load_topics(project)
    unknown = sorted(set(names) - topics.keys())
    if unknown:
        raise CdwError(
            f"no such topic: {', '.join(unknown)}",
            where="--topic",
            do=f"choose from vars.topics of dbt_project.yml: {', '.join(topics)}",
        )
    bound = time.astimezone(UTC).replace(tzinfo=None)
    chosen = [topics[name] for name in names or topics]
    in_topics = f" and _topic in ({', '.join(['%s'] * len(names))})" if names else ""

    def plan(_: Statements) -> Iterator[_Part]:
        for topic in chosen:
            yield _Part(topic.qualified, Condition(f"{_ARRIVAL} < %s", (bound,)))
        yield _Part(REJECTS, Condition(f"{_ARRIVAL} < %s{in_topics}", (bound, *names)))

    return plan


def naming(identifier: Identifier, project: Path, *, keep_rejects: bool = False) -> Plan:
    """Plan to purge every record that names a patient identifier; one that names others too goes whole.

    Rejects and originals without a loaded message cannot be read: those whose bytes hold the id as a word go,
    whosever it is, unless they are kept.

    Raises:
        CdwError: the project's variables or seeds cannot be read.
    """
    finder = Finder(identifier, project)
    topics = list(load_topics(project).values())
    telemetry = [topic for topic in topics if topic.qualified == _TELEMETRY and finder.is_in_telemetry]
    ehr = [
        topic
        for topic in topics
        if "patient_id" in topic.fields and topic.qualified != _TELEMETRY and finder.is_in_ehr
    ]

    def plan(statements: Statements) -> Iterator[_Part]:
        for topic in telemetry:
            yield _Part(topic.qualified, _in_payload(topic, identifier, "payload"))
        for topic in ehr:
            yield _Part(topic.qualified, _in_payload(topic, identifier, *_IMAGES))
        read = {topic.qualified: _tombstones(statements, topic, identifier) for topic in ehr}
        read[_MESSAGES] = _messages(statements, finder, identifier)
        if not keep_rejects:
            read[_REJECTED] = _hl7_rejects(statements, finder)
            read[REJECTS] = _rejects(statements, finder)
            read[_ORIGINALS] = _originals(statements, finder)
        found = Found(statements)
        for table, records in read.items():
            condition = found.note(table, records)
            if table != _ORIGINALS:
                yield _Part(table, condition)
        # By hash: those of the messages and rejects above, and those just found.
        yield _Part(_ORIGINALS, Found.IN_HASHES)
        found.forget()

    return plan


def purge(target: Target, project: Path, plan: Plan, *, dry_run: bool = False) -> Purged:
    """Carry a plan out in one transaction, or only count what it would take.

    Raises:
        CdwError: nothing has been loaded, the layout is another version's, or the warehouse refuses.
    """
    with open_warehouse(target, read_only=True) as warehouse:
        if not warehouse.has_layout():
            raise CdwError(
                "no raw tables: nothing has been loaded here yet",
                where=warehouse.where,
                do="name another target, if this is not the one that was meant",
            )
    purged = Purged()
    with open_warehouse(target) as warehouse:
        warehouse.prepare(list(load_topics(project).values()))
        with warehouse.maintenance() as statements:
            for part in plan(statements):
                _take(statements, part, purged, dry_run)
    return purged


def _take(statements: Statements, part: _Part, purged: Purged, dry_run: bool) -> None:
    """Count what goes from a table, by partition; then delete it and write that down."""
    table, (condition, parameters) = part
    counted = statements.execute(
        f"select _topic, _topic_id, _partition, count(*) from {table} "  # noqa: S608 - our own names
        f"where {condition} group by _topic, _topic_id, _partition",
        parameters,
    )
    is_reject = table == REJECTS
    for topic, _, _, count in counted:
        (purged.rejects if is_reject else purged.rows)[topic] += count
    if dry_run or not counted:
        return
    statements.execute(f"delete from {table} where {condition}", parameters)  # noqa: S608 - our own names
    at = datetime.now(UTC).replace(tzinfo=None)
    for *place, count in counted:
        rows, rejects = (0, -count) if is_reject else (-count, 0)
        write_entry(statements, Entry("purge", Place(*place), rows, rejects, at))


def _in_payload(topic: Topic, identifier: Identifier, *objects: str) -> Condition:
    """Whether one of these JSON objects names the patient."""
    name = topic.fields["patient_id"]
    conditions = [f"({where}->>'{name}') = %s" for where in objects]
    return Condition(" or ".join(conditions), (identifier.id,) * len(conditions))


def _tombstones(statements: Statements, topic: Topic, identifier: Identifier) -> list[Coordinates]:
    """Records without a value whose key is the identifier, or has it."""
    candidates = statements.stream(
        f"select {COORDINATES}, _key from {topic.qualified} "  # noqa: S608 - our own names
        "where payload is null and strpos(_key, %s) > 0",
        (identifier.id,),
    )
    return [
        Coordinates(*at)
        for *at, key in candidates
        if is_in_key(key, topic.fields["patient_id"], identifier.id)
    ]


def _messages(statements: Statements, finder: Finder, identifier: Identifier) -> list[Coordinates]:
    candidates = statements.stream(
        f"select {COORDINATES}, payload->'meta'->>'sha256', cast(payload as text) from {_MESSAGES} "  # noqa: S608
        "where strpos(cast(payload as text), %s) > 0",
        (json.dumps(identifier.id, ensure_ascii=False)[1:-1],),
    )
    return [Coordinates(*at) for *at, message in candidates if finder.is_in_message(message)]


def _hl7_rejects(statements: Statements, finder: Finder) -> list[Coordinates]:
    """Rejects of the decoder; the bytes of a long one stand among the originals."""
    short = statements.stream(
        f"select {COORDINATES}, payload->>'sha256', cast(payload as text) from {_REJECTED} "  # noqa: S608
        "where payload is not null"
    )
    found = [Coordinates(*at) for *at, text in short if finder.is_in_bytes(text.encode())]
    long = statements.stream(
        f"select r._topic_id, r._partition, r._offset, o.sha256, o.bytes from {_REJECTED} r "  # noqa: S608
        f"join {_ORIGINALS} o on o.sha256 = ((r.payload->'bytes')->>'sha256')"
    )
    return list({*found, *(Coordinates(*at) for *at, data in long if finder.is_in_bytes(data))})


def _rejects(statements: Statements, finder: Finder) -> list[Coordinates]:
    rejects = statements.stream(
        f"select {COORDINATES}, _key, _key_bytes, cast(_headers as text), bytes from {REJECTS}"  # noqa: S608
    )
    return [
        Coordinates(*at)
        for *at, key, key_bytes, headers, data in rejects
        if any(map(finder.is_in_bytes, (data or b"", key_bytes or b"", (key or "").encode())))
        or finder.is_in_headers(headers or "[]")
    ]


def _originals(statements: Statements, finder: Finder) -> list[Coordinates]:
    """Originals that no message stands for: it was refused, or purged, or is not loaded yet."""
    originals = statements.stream(
        f"select {COORDINATES}, o.sha256, o.bytes from {_ORIGINALS} o where not exists "  # noqa: S608
        f"(select 1 from {_MESSAGES} m where ((m.payload->'meta')->>'sha256') = o.sha256)"
    )
    return [Coordinates(*at) for *at, data in originals if finder.is_in_bytes(data)]
