"""The transport gate: what every warehouse can hold and reads alike passes, the rest gets a reason.

What is JSON but no fact (no device, no number) passes: that is for the models to say.

Most records are written the one way that a JSON writer writes, with keys that are known. That such a record
has no fault is found out without a look at each value in Python (``_Usual``); others are read value by value.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from loaders.topics import Topic

# A Redshift SUPER string ends there, unless a database opted into longer ones.
MAX_STRING_BYTES = 65_535
# Far above any real record, far below where a recursive parser's stack ends (Python's at about 1,000, as
# deep as Redshift's SUPER goes).
MAX_DEPTH = 100
# The most digits a Redshift or Postgres-compatible decimal has.
MAX_INTEGER_DIGITS = 38
# Shapes of objects seen, by topic: senders use a few; the bound is for one who does not.
_MAX_SHAPES = 10_000

# The form every engine reads as a number; the models ask for it too.
_NUMBER = re.compile(r"-?\d{1,11}(\.\d+)?([eE][+-]?\d{1,2})?")
# From here on engines differ in where they begin to write an exponent, and no model takes such a number.
_TOO_LARGE = 1e11
# Fifteen significant digits always come back from a double as they were.
_PLAIN_NUMBER = re.compile(r"-?\d{1,9}\.\d{1,6}")
_SURROGATE = re.compile("[\ud800-\udfff]")
# A string is skipped whole, also one without an end: no text takes more than linear time.
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{\]}]', re.DOTALL)
_WHITE = b" \t\r\n"
# Keys of HL7 messages that stand in no list: fields, components and subcomponents, as far as they are usual.
_POSITIONS = frozenset(
    [str(number) for number in range(1, 60)]
    + [f"{component}.{number}" for component in range(1, 12) for number in range(2, 10)]
)
# How deep objects and arrays nest in an HL7 message, the deepest of our records.
_USUAL_DEPTH = 7
# The shortest form of a double has it only below 1e-99: no number that the engines read alike.
_LONG_EXPONENT = re.compile(rb"e-\d{3}")


class _RejectedError(Exception):
    """Carries the code out of the depths of a check; never leaves this module."""


def is_tombstone(record: bytes) -> bool:
    """Whether a record that passed the gate is ``null``."""
    return len(record) < 64 and record.strip(_WHITE) == b"null"


def original(record: bytes) -> bytes:
    """The bytes in a record of the originals' topic, ``{"sha256": …, "bytes": base64}``.

    Raises:
        ValueError: it has another shape, or the hash is that of other bytes.
    """
    value = json.loads(record)
    try:
        data = base64.b64decode(value["bytes"], validate=True)
        matches = value["sha256"] == sha256(data).hexdigest()
    except (KeyError, TypeError, binascii.Error):
        matches = False
    if not matches:
        raise ValueError
    return data


class Gate:
    """The gate of one topic; ``check`` gives the reason's code, or None for what passes."""

    def __init__(self, topic: Topic, max_bytes: int) -> None:
        """``max_bytes``: the longest value let through, in bytes."""
        self._topic = topic
        self._is_restricted = topic.is_restricted
        self._max_bytes = max_bytes
        # Originals travel in base64 and are measured as the bytes they are.
        self._max_line = max_bytes * 4 // 3 + 1_000 if topic.is_restricted else max_bytes
        self._keys = topic.keys
        self._folded = {key.casefold() for key in topic.keys}
        self._shapes: dict[tuple[str, ...], str | None] = {}
        self._fault: str | None = None
        self._decode = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_float=self._float,
            parse_int=self._int,
            parse_constant=_constant,
        ).decode

    def check(self, record: bytes) -> str | None:
        """Why a record cannot pass (``E_…``), or None.

        A record with several faults gets the first of: size, encoding, JSON, object, keys and numbers in
        their order, strings.
        """
        if len(record) > self._max_line:
            return "E_TOO_LARGE"
        if not self._is_restricted and self._usual.has_no_fault(record):
            return None
        try:
            text = record.decode()
            value = self._read(text)
            # Only an escape can bring in NUL or half a surrogate pair: raw, neither is JSON in UTF-8.
            if "\\u" in text or len(record) > MAX_STRING_BYTES:
                self._check_strings(value)
            if self._is_restricted and value is not None:
                self._check_original(record)
        except UnicodeDecodeError:
            return "E_NOT_UTF8"
        except _RejectedError as rejected:
            return str(rejected)
        return None

    @cached_property
    def _usual(self) -> "_Usual":
        """Made for the topics that have records: it takes a while."""
        return _Usual(self._topic)

    def _read(self, text: str) -> object:
        # The parser recurses, so depth is bounded before it; the count is cheap, the measure is exact.
        if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
            raise _RejectedError("E_NOT_JSON")
        self._fault = None
        try:
            value = self._decode(text)
        except ValueError:
            raise _RejectedError("E_NOT_JSON") from None
        if value is not None and not isinstance(value, dict):
            raise _RejectedError("E_NOT_OBJECT")
        if self._fault:
            raise _RejectedError(self._fault)
        return value

    def _check_strings(self, value: object) -> None:
        for string in _strings(value):
            if "\0" in string:
                raise _RejectedError("E_NUL_ESCAPE")
            if _SURROGATE.search(string):
                raise _RejectedError("E_LONE_SURROGATE")
            if not self._is_restricted and len(string.encode()) > MAX_STRING_BYTES:
                raise _RejectedError("E_STRING_TOO_LONG")

    def _check_original(self, record: bytes) -> None:
        try:
            data = original(record)
        except ValueError:
            raise _RejectedError("E_ORIGINAL") from None
        if len(data) > self._max_bytes:
            raise _RejectedError("E_TOO_LARGE")

    # The parser's hooks note the first fault and go on: whether the text is JSON at all is said first.

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        shape = tuple([pair[0] for pair in pairs])
        try:
            reason = self._shapes[shape]
        except KeyError:
            reason = self._judge(shape)
            if len(self._shapes) < _MAX_SHAPES:
                self._shapes[shape] = reason
        if reason and not self._fault:
            self._fault = reason
        return dict(pairs)

    def _judge(self, shape: tuple[str, ...]) -> str | None:
        # Redshift's SUPER reads keys that differ in case as one.
        if len({key.casefold() for key in shape}) != len(shape):
            return "E_REPEATED_KEY"
        if any(key not in self._keys and key.casefold() in self._folded for key in shape):
            return "E_KEY_CASE"
        return None

    def _float(self, text: str) -> float:
        if not _PLAIN_NUMBER.fullmatch(text) and not self._fault and not _is_exact(text):
            self._fault = "E_NUMBER"
        return 0.0

    def _int(self, text: str) -> int:
        # DuckDB reads -0 as 0, Postgres keeps the sign.
        if (len(text.lstrip("-")) > MAX_INTEGER_DIGITS or text == "-0") and not self._fault:
            self._fault = "E_NUMBER"
        return 0


class _Usual:
    """Knows records without a fault: those that come out the same when they are read and written again."""

    def __init__(self, topic: Topic) -> None:
        # Types made while running: no checker knows them. Of a topic's keys no two differ in case only.
        key: Any = Literal[tuple(sorted(topic.keys | _POSITIONS))]
        integer: Any = Annotated[int, msgspec.Meta(ge=-(10**18), le=10**18)]
        number: Any = Annotated[float, msgspec.Meta(gt=-_TOO_LARGE, lt=_TOO_LARGE)]
        scalar: Any = str | integer | number | bool | None
        value = scalar
        for _ in range(_USUAL_DEPTH - 1):
            value = scalar | list[value] | dict[key, value]  # type: ignore[valid-type]
        self._read = msgspec.json.Decoder(dict[key, value]).decode  # type: ignore[valid-type]
        self._write = msgspec.json.Encoder().encode

    def has_no_fault(self, record: bytes) -> bool:
        """Whether it is known that a record passes; False says nothing.

        What is read has known keys, no deep nesting, valid UTF-8 and no large number, or msgspec refuses.
        What is written then has each key once, and each number as an integer or as the shortest form of a
        double. A record that is the same bytes has all of this. Left are escapes that stand for any
        character, long strings and long exponents.
        """
        if len(record) > MAX_STRING_BYTES or b"\\u" in record:
            return False
        try:
            if self._write(self._read(record)) != record:
                return False
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        return b"e-" not in record or not _LONG_EXPONENT.search(record)


def _constant(_: str) -> NoReturn:
    raise ValueError


def _is_exact(text: str) -> bool:
    """Whether a number with fraction or exponent is the same as text (Postgres) and as a double (DuckDB)."""
    if not _NUMBER.fullmatch(text):
        return False
    number = float(text)
    shortest = repr(number)
    return (
        abs(number) < _TOO_LARGE and bool(_NUMBER.fullmatch(shortest)) and Decimal(text) == Decimal(shortest)
    )


def _depth(text: str) -> int:
    """How deep arrays and objects nest in a JSON text; meaningless but harmless in what is no JSON."""
    depth = deepest = 0
    for match in _BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in "]}":
            depth -= 1
    return deepest


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from _strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)
