"""From Kafka's messages to records: value, key, headers and time as raw keeps them, or the reason why not."""

import base64
from datetime import datetime, timedelta
from typing import NamedTuple, cast

import msgspec
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
    Message,
)

from loaders.gate import Gate, is_tombstone
from loaders.topics import Topic
from loaders.warehouse.protocol import Record, Reject

_EPOCH = datetime(1970, 1, 1)
_TIMESTAMP_TYPES = {
    TIMESTAMP_CREATE_TIME: "CreateTime",
    TIMESTAMP_LOG_APPEND_TIME: "LogAppendTime",
    TIMESTAMP_NOT_AVAILABLE: None,
}
_to_json = msgspec.json.Encoder().encode


class Sorted(NamedTuple):
    """Records that pass the gate, and those that do not."""

    rows: list[Record]
    rejects: list[Reject]


class Sorter:
    """Sends the messages of one topic through the gate."""

    def __init__(self, topic: Topic, max_bytes: int) -> None:
        """``max_bytes``: the longest value let through, in bytes."""
        self._is_restricted = topic.is_restricted
        self._max_bytes = max_bytes
        self._check = Gate(topic, max_bytes).check

    def sort(self, messages: list[Message]) -> Sorted:
        """Part rows and rejects, each in the order of the messages."""
        found = Sorted([], [])
        for message in messages:
            record, reason = self._record(message)
            if reason:
                found.rejects.append(Reject(reason, record))
            else:
                found.rows.append(record)
        return found

    def _record(self, message: Message) -> tuple[Record, str | None]:
        value = message.value()
        assert value is None or isinstance(value, bytes)
        reason = self._reason(value)
        if value is not None and not reason and not self._is_restricted and is_tombstone(value):
            value = None
        raw_key = message.key()
        assert raw_key is None or isinstance(raw_key, bytes)
        key, key_bytes = _text(raw_key)
        kind, milliseconds = message.timestamp()
        timestamp = None
        if kind != TIMESTAMP_NOT_AVAILABLE:
            try:
                timestamp = _EPOCH + timedelta(milliseconds=milliseconds)
            except OverflowError:
                reason = reason or "E_TIMESTAMP"
        if key_bytes is not None:
            reason = reason or "E_KEY_NOT_TEXT"
        offset = message.offset()
        assert offset is not None
        headers = _headers(message)
        return Record(offset, value, timestamp, _TIMESTAMP_TYPES[kind], key, headers, key_bytes), reason

    def _reason(self, value: bytes | None) -> str | None:
        if value is None:
            return None
        if self._is_restricted:  # bytes as they came: whatever they are, they are kept
            return "E_TOO_LARGE" if len(value) > self._max_bytes else None
        return self._check(value)


def _text(data: bytes | None) -> tuple[str | None, bytes | None]:
    """Bytes as text, or themselves where no warehouse can hold them as text."""
    if data is None:
        return None, None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None, data
    return (None, data) if "\0" in text else (text, None)


def _headers(message: Message) -> str | None:
    """Headers as a JSON array, for a name may come twice: ``[{"key": …, "value": …}]``, or ``base64``."""
    headers = cast("list[tuple[str, str | bytes | None]]", message.headers())
    if not headers:
        return None
    entries: list[dict[str, str | None]] = []
    for name, value in headers:
        data = value.encode() if isinstance(value, str) else value
        text, other = _text(data)
        entries.append(
            {"key": name, "value": text}
            if other is None
            else {"key": name, "base64": base64.b64encode(other).decode("ascii")}
        )
    return _to_json(entries).decode()
