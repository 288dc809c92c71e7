"""The raw layout: the tables that the loader owns, alike in every warehouse.

Types are our words; each warehouse has its own for them. No key on the topics' tables: it costs more than
half the load speed, and the compare-and-set of the position already keeps an offset from coming twice.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from loaders.topics import RESTRICTED, Topic

Type = Literal["text", "int", "bigint", "timestamp", "json", "bytes"]
Columns = Mapping[str, Type]

VERSION = 2
"""The version of this layout; ``cdw migrate`` brings an older one up to it."""

SCHEMAS = ("raw", RESTRICTED)
LAYOUT = "raw.layout"
REJECTS = f"{RESTRICTED}.rejected_records"
POSITIONS = "raw.load_positions"
BATCHES = "raw.load_batches"
BATCH_IDS = "raw.batch_ids"

_COORDINATES: Columns = {"_topic": "text", "_topic_id": "text", "_partition": "int", "_offset": "bigint"}
_STAMP: Columns = {"_timestamp": "timestamp", "_timestamp_type": "text", "_key": "text"}
_ARRIVAL: Columns = {"_batch_id": "bigint", "_loaded_at": "timestamp"}

PAYLOADS: Columns = {**_COORDINATES, **_STAMP, "_headers": "json", "payload": "json", **_ARRIVAL}
ORIGINALS: Columns = {
    **_COORDINATES,
    **_STAMP,
    "_headers": "json",
    "sha256": "text",
    "bytes": "bytes",
    **_ARRIVAL,
}

_KEYS = {
    LAYOUT: "primary key (version)",
    POSITIONS: "primary key (cluster, topic, topic_id, partition)",
    BATCHES: "primary key (batch_id)",
}
_FIXED: dict[str, Columns] = {
    # warehouse_id is made once: it tells this warehouse from others that read the same Kafka.
    LAYOUT: {"version": "int", "warehouse_id": "text", "applied_at": "timestamp"},
    REJECTS: {
        "reason": "text",
        **_COORDINATES,
        **_STAMP,
        "bytes": "bytes",
        "sha256": "text",
        **_ARRIVAL,
        "_headers": "json",
        # Only where a key is no text in UTF-8: _key is empty then.
        "_key_bytes": "bytes",
    },
    POSITIONS: {
        "cluster": "text",
        "topic": "text",
        "topic_id": "text",
        "partition": "int",
        "first_offset": "bigint",
        "next_offset": "bigint",
        "loader": "text",
        "updated_at": "timestamp",
        # Of the last batch: the next one is chained to it.
        "sha256": "text",
    },
    BATCHES: {
        "batch_id": "bigint",
        "cluster": "text",
        "topic": "text",
        "topic_id": "text",
        "partition": "int",
        "first_offset": "bigint",
        "next_offset": "bigint",
        "row_count": "bigint",
        "reject_count": "bigint",
        "explained_count": "bigint",
        "byte_count": "bigint",
        "sha256": "text",
        "previous_sha256": "text",
        "loaded_at": "timestamp",
        # load; skip (a position moved on purpose: offsets, no rows); purge and replay (rows, no offsets).
        "kind": "text",
    },
}

# What dbt may count of a restricted table: where records stood, never what they held or whose they were.
COUNTABLE = ("reason", *_COORDINATES, "_timestamp", "_timestamp_type", *_ARRIVAL)


def topic_columns(topic: Topic) -> Columns:
    """The columns of a topic's table."""
    return ORIGINALS if topic.is_restricted else PAYLOADS


def tables(topics: Sequence[Topic]) -> dict[str, Columns]:
    """Every table of the layout, by qualified name."""
    return {**_FIXED, **{topic.qualified: topic_columns(topic) for topic in topics}}


def create_table(name: str, columns: Columns, types: Mapping[Type, str]) -> str:
    """The DDL of one table; ``types`` gives the warehouse's word for each of ours."""
    lines = [f"{column} {types[kind]}" for column, kind in columns.items()]
    if name == BATCHES:
        # A sequence rises even when a transaction does not commit: no number is given twice.
        lines[0] += f" default nextval('{BATCH_IDS}')"
    if name in _KEYS:
        lines.append(_KEYS[name])
    return f"create table if not exists {name} ({', '.join(lines)})"
