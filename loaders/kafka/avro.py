"""Avro by a schema registry, written as the JSON that Kafka Connect's JSON converter would have sent.

So the models need not know which converter a topic has. Dates are days and times of day numbers, timestamps
in milliseconds are epoch milliseconds. Three things differ from that converter, for no model could read them:
timestamps in microseconds become ISO 8601, decimals their digits as text, and what JSON has no number for
(NaN, infinity) is refused. Bytes are base64. A 32-bit float is the shortest decimal that means it: 120.35,
not 120.3499984741211. Rules of data contracts (encryption, migration) are not run.

Needs the extra ``avro``; ``loaders.kafka.records.open_avro`` imports it where it is asked for.
"""

import base64
import json
import math
import struct
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from io import BytesIO
from itertools import islice, takewhile
from typing import Any

from confluent_kafka.schema_registry import Schema
from fastavro import parse_schema, schemaless_reader
from fastavro.read import LOGICAL_READERS

from loaders.kafka.patience import BusyError
from loaders.kafka.registry import SchemaRegistry

# Zero, the schema's id, the record.
_PREFIX = struct.Struct(">Bi")
_FLOAT = struct.Struct("f")
# A schema that is registered late is known so much later.
_UNKNOWN_SECONDS = 60.0
# More than the records of a batch can name; about 50 MB.
_UNKNOWN_IDS = 500_000
# Questions to the registry in one go: Kafka gives the partitions to others where none polls for minutes.
_QUESTION_SECONDS = 10.0
_EPOCH = datetime(1970, 1, 1)


class AvroReader:
    """Reads keys and values in Confluent's wire format, with the schema that each was written with."""

    def __init__(self, registry: SchemaRegistry) -> None:
        """Schemas are asked for when they are first met, and kept; so is for a while what is none."""
        self._registry = registry
        self._schemas: dict[int, Any] = {}
        # Id -> when it was asked for, the first one first.
        self._unknown: dict[int, float] = {}
        self._asked_seconds = 0.0
        self._busy_at = -math.inf

    def forget_unknown(self) -> None:
        """Ask again for schemas that were not there some time ago."""
        now = time.monotonic()
        # Not of records that are gone through again since: that would have no end.
        before = now - _UNKNOWN_SECONDS if now - self._busy_at > _UNKNOWN_SECONDS else -math.inf
        old = sum(1 for _ in takewhile(lambda asked_at: asked_at <= before, self._unknown.values()))
        for number in list(islice(self._unknown, max(old, len(self._unknown) - _UNKNOWN_IDS))):
            del self._unknown[number]

    def breathe(self) -> None:
        """To be called between records by a member of a consumer group.

        Raises:
            BusyError: questions have taken so long that it is to be heard of; none is asked twice after it.
        """
        if self._asked_seconds > _QUESTION_SECONDS:
            self._asked_seconds, self._busy_at = 0.0, time.monotonic()
            raise BusyError

    def json(self, data: bytes) -> bytes | None:
        """A record as JSON in UTF-8; None where bytes and schema do not fit, or the schema is unknown.

        Raises:
            AwayError: the registry does not answer.
            CdwError: the registry refuses us, or is none.
        """
        if len(data) < _PREFIX.size:
            return None
        _, number = _PREFIX.unpack_from(data)
        schema = self._schema(number)
        if schema is None:
            return None
        stream = BytesIO(data)
        stream.seek(_PREFIX.size)
        try:
            value = schemaless_reader(stream, schema, None)
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except Exception:  # fastavro raises what it stumbles over: IndexError, EOFError, UnicodeDecodeError…
            return None
        return None if stream.read(1) else text.encode()

    def key(self, data: bytes) -> bytes | None:
        """A key as ``json``, but text without quotes, as a sender of plain text has it."""
        found = self.json(data)
        return str(json.loads(found)).encode() if found and found.startswith(b'"') else found

    def _schema(self, number: int) -> Any:
        if number < 0:  # no id of any registry; what it would answer differs
            return None
        schema = self._schemas.get(number)
        if schema is None and number not in self._unknown:
            asked_at = time.monotonic()
            schema = self._parsed(self._registry.schema(number), {})
            now = time.monotonic()
            self._asked_seconds += now - asked_at
            if schema is None:
                self._unknown[number] = now
            else:
                self._schemas[number] = schema
        return schema

    def _parsed(self, schema: Schema | None, named: dict[str, Any]) -> Any:
        """A schema as fastavro reads it, after those it refers to (``named``); None where it cannot."""
        if schema is None or schema.schema_type != "AVRO" or schema.schema_str is None:
            return None
        for reference in schema.references or ():
            if self._parsed(self._registry.referenced(reference), named) is None:
                return None
        try:
            full_names = parse_schema(json.loads(schema.schema_str), dict(named))
            return parse_schema(_as_json(full_names), named)
        except Exception:  # no schema, or not one that fastavro takes
            return None


def _as_json(schema: Any, within: frozenset[str] = frozenset()) -> Any:
    """A parsed schema that is read as JSON's types: other logical types, ours, in place of the sender's.

    Raises:
        ValueError: a type contains itself. Read in C, a record of 100 kB ends the process.
    """
    if isinstance(schema, list):
        return [_as_json(branch, within) for branch in schema]
    if isinstance(schema, str):
        schema = {"type": schema}
    kind = schema["type"]
    if kind in within:
        raise ValueError
    match kind:
        case "record" | "error":
            inside = within | {schema["name"]}
            fields = [
                {"name": field["name"], "type": _as_json(field["type"], inside)} for field in schema["fields"]
            ]
            return {"type": kind, "name": schema["name"], "fields": fields}
        case "array":
            return {"type": kind, "items": _as_json(schema["items"], within)}
        case "map":
            return {"type": kind, "values": _as_json(schema["values"], within)}
        case _:
            return _plain(schema)


def _plain(schema: Mapping[str, Any]) -> Any:
    """A type without parts, or the name of one defined before."""
    kind = schema["type"]
    kept = {word: schema[word] for word in ("type", "name", "symbols", "size", "scale") if word in schema}
    sent = schema.get("logicalType")
    for logical in (f"cdw-{sent}", "cdw"):
        if f"{kind}-{logical}" in _READERS:
            return kept | {"logicalType": logical}
    return kept if "name" in kept else kind


def _float(value: float, *_: Any) -> float:
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if _FLOAT.unpack(_FLOAT.pack(short))[0] == value:
            return short
    return float(f"{value:.9g}")


def _base64(value: bytes, *_: Any) -> str:
    return base64.b64encode(value).decode("ascii")


def _decimal(value: bytes, schema: Mapping[str, Any], _: Any) -> str:
    digits, scale = int.from_bytes(value, "big", signed=True), schema.get("scale", 0)
    return f"{Decimal(f'{digits}e-{scale}'):f}"


def _instant(value: int, *_: Any) -> str:
    return f"{_local_time(value)}Z"


def _local_time(value: int, *_: Any) -> str:
    return (_EPOCH + timedelta(microseconds=value)).isoformat()


_READERS: dict[str, Callable[[Any, Any, Any], object]] = {
    "float-cdw": _float,
    "bytes-cdw": _base64,
    "fixed-cdw": _base64,
    "bytes-cdw-decimal": _decimal,
    "fixed-cdw-decimal": _decimal,
    "long-cdw-timestamp-micros": _instant,
    "long-cdw-local-timestamp-micros": _local_time,
}
LOGICAL_READERS.update(_READERS)
