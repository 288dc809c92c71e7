"""Change events of the EHR's tables as Debezium writes them for Postgres."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from loaders.kafka.outgoing import Outgoing

Table = Literal["patients", "devices", "prescriptions"]
TABLES: tuple[Table, ...] = ("patients", "devices", "prescriptions")
Row = dict[str, Any]

WRAPPED_EVERY = 9
SNAPSHOT_LSN = 24_023_128


@dataclass(frozen=True)
class Change:
    """One change of one row, committed at ``at`` (ms).

    ``op``: r read by a snapshot, c created, u updated, d deleted. ``delivered_again_at`` (ms) has the same
    event come a second time, as Kafka Connect does after a crash.
    """

    at: int
    table: Table
    op: Literal["r", "c", "u", "d"]
    before: Row | None
    after: Row | None
    delivered_again_at: int | None = None


def topic(table: Table) -> str:
    """The topic a table's changes are published to."""
    return f"healthcare.public.{table}"


def envelopes(changes: Iterable[Change]) -> Iterator[Outgoing]:
    """Every event in order of delivery; a delete is followed by its tombstone."""
    delivered: list[tuple[int, int, Change]] = []
    first_at: int | None = None
    lsn = SNAPSHOT_LSN
    for change in sorted(changes, key=lambda change: change.at):
        first_at = change.at if first_at is None else first_at
        # All rows of the first snapshot bear the position in the log at which it was taken.
        if change.at != first_at:
            lsn += 56
        delivered.append((change.at, lsn, change))
        if change.delivered_again_at is not None:
            delivered.append((change.delivered_again_at, lsn, change))
    delivered.sort(key=lambda delivery: delivery[0])
    for number, (delivered_at, lsn, change) in enumerate(delivered):
        value = envelope(change, lsn, delivered_at)
        if number % WRAPPED_EVERY == WRAPPED_EVERY - 1:
            value = {"schema": schema(change.table), "payload": value}
        event = Outgoing(topic(change.table), _json({"id": _row_id(change)}), _json(value).encode())
        yield event
        if change.op == "d":
            yield event._replace(value=None)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _row_id(change: Change) -> int:
    row = change.after or change.before
    assert row is not None
    return int(row["id"])


def envelope(change: Change, lsn: int, delivered_at: int) -> dict[str, Any]:
    """One Debezium envelope without its schema."""
    return {
        "before": change.before,
        "after": change.after,
        "source": {
            "version": "3.0.0.Final",
            "connector": "postgresql",
            "name": "healthcare",
            "ts_ms": change.at,
            "snapshot": "true" if change.op == "r" else "false",
            "db": "ehr",
            "schema": "public",
            "table": change.table,
            "txId": lsn // 56,
            "lsn": lsn,
            "xmin": None,
        },
        "op": change.op,
        "ts_ms": delivered_at + 250,
        "transaction": None,
    }


def schema(table: Table) -> dict[str, Any]:
    """What the JSON converter puts around the payload when schemas are on, in short."""
    return {
        "type": "struct",
        "optional": False,
        "name": f"healthcare.public.{table}.Envelope",
        "version": 2,
        "fields": [{"type": "string", "optional": False, "field": "op"}],
    }
