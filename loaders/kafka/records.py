"""From Kafka's messages to records: value, key, headers and time as raw keeps them, or the reason why not."""

import base64
from datetime import datetime, timedelta
from operator import methodcaller
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
    Message,
)

from loaders.errors import CdwError
from loaders.gate import Gate, is_tombstone
from loaders.settings import Settings
from loaders.topics import Topic
from loaders.warehouse.protocol import Record, Reject

if TYPE_CHECKING:
    from loaders.kafka.avro import AvroReader

_EPOCH = datetime(1970, 1, 1)
_TIMESTAMP_TYPES = {
    TIMESTAMP_CREATE_TIME: "CreateTime",
    TIMESTAMP_LOG_APPEND_TIME: "LogAppendTime",
    TIMESTAMP_NOT_AVAILABLE: None,
}
# Confluent's wire format; no JSON and no text that a warehouse can hold begins so.
_AVRO = b"\0"
Headers = list[tuple[str, str | bytes | None]]
_UNREADABLE: Headers = [("", None)]
_ask_for_headers = methodcaller("headers")
_to_json = msgspec.json.Encoder().encode


class Sorted(NamedTuple):
    """Records that pass the gate, and those that do not."""

    rows: list[Record]
    rejects: list[Reject]


class Sorter:
    """Sends the messages of one topic through the gate."""

    def __init__(self, topic: Topic, max_bytes: int, avro: "AvroReader | None" = None) -> None:
        """``max_bytes``: the longest value let through, in bytes; ``avro`` reads what begins with zero."""
        self._is_restricted = topic.is_restricted
        self._max_bytes = max_bytes
        self._check = Gate(topic, max_bytes).check
        self._avro = avro

    def sort(self, messages: list[Message]) -> Sorted:
        """Part rows and rejects, each in the order of the messages.

        Raises:
            AwayError: the schema registry does not answer.
            BusyError: it is asked for long; called again, this goes on.
            CdwError: it refuses us, or is none.
        """
        found = Sorted([], [])
        if self._avro:
            self._avro.forget_unknown()
        for message in messages:
            record, reason = self._record(message)
            if reason:
                found.rejects.append(Reject(reason, record))
            else:
                found.rows.append(record)
            if self._avro:
                self._avro.breathe()
        return found

    def _record(self, message: Message) -> tuple[Record, str | None]:
        sent = message.value()
        assert sent is None or isinstance(sent, bytes)
        value, reason = self.read(sent)
        sent_key = message.key()
        assert not isinstance(sent_key, str)
        key, key_bytes = self.read_key(sent_key)
        kind, milliseconds = message.timestamp()
        timestamp = None
        if kind != TIMESTAMP_NOT_AVAILABLE:
            try:
                timestamp = _EPOCH + timedelta(0, 0, 0, milliseconds)  # by name it takes twice as long
            except OverflowError:
                reason = reason or "E_TIMESTAMP"
        if key_bytes is not None:
            reason = reason or "E_KEY_NOT_TEXT"
        headers = _read_headers(message)
        if headers is _UNREADABLE:
            headers, reason = None, reason or "E_HEADERS"
        if reason:
            value = sent
        offset = message.offset()
        assert offset is not None
        kind_name, text = _TIMESTAMP_TYPES[kind], _headers(headers)
        return Record(offset, value, timestamp, kind_name, key, text, key_bytes), reason

    def read(self, value: bytes | None) -> tuple[bytes | None, str | None]:
        """A value as raw keeps it (JSON; None for a tombstone), and why it cannot pass.

        Raises:
            AwayError: the schema registry does not answer.
            CdwError: it refuses us, or is none.
        """
        if value is None:
            return None, None
        if len(value) > self._max_bytes:
            return value, "E_TOO_LARGE"
        if self._is_restricted:  # bytes as they came: whatever they are, they are kept
            return value, None
        if self._avro and value.startswith(_AVRO):
            found = self._avro.json(value)
            if found is None:
                return value, "E_AVRO"
            value = found
        reason = self._check(value)
        return (None if not reason and is_tombstone(value) else value), reason

    def read_key(self, key: bytes | None) -> tuple[str | None, bytes | None]:
        """A key as text, or the bytes that no warehouse can hold as text; raises as ``read`` does."""
        if self._avro and key and key.startswith(_AVRO):
            found = self._avro.key(key)
            return (None, key) if found is None else _text(found)
        return _text(key)


def open_avro(settings: Settings) -> "AvroReader | None":
    """What reads Avro, where a schema registry is set.

    Raises:
        CdwError: a library is missing, or the registry's address or a property cannot be used.
    """
    if not settings.schema_registry_url:
        return None
    try:
        from loaders.kafka.avro import AvroReader  # noqa: PLC0415 - an extra
        from loaders.kafka.registry import SchemaRegistry  # noqa: PLC0415
    except ImportError:
        raise CdwError(
            "the libraries that read Avro are not installed",
            where="CDW_SCHEMA_REGISTRY_URL",
            do="run pip install --editable '.[avro]' in the project's folder, or unset the variable",
        ) from None
    return AvroReader(SchemaRegistry(settings))


def _text(data: bytes | None) -> tuple[str | None, bytes | None]:
    """Bytes as text, or themselves where no warehouse can hold them as text."""
    if data is None:
        return None, None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None, data
    return (None, data) if "\0" in text else (text, None)


def _read_headers(message: Message) -> Headers | None:
    """The headers of a message; ``_UNREADABLE`` where a name is not UTF-8.

    There, confluent_kafka gives a list that crashes who looks into it, and an error beside it which only a
    call by way of C is sure to see; asked once more, the list alone. So it is replaced at once.
    """
    try:
        return cast("Headers | None", _ask_for_headers(message))
    except (SystemError, UnicodeDecodeError):
        message.set_headers(_UNREADABLE)
        return _UNREADABLE


def _headers(headers: Headers | None) -> str | None:
    """Headers as a JSON array, for a name may come twice: ``[{"key": …, "value": …}]``, or ``base64``."""
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
