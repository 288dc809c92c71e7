"""The segments of a message as JSON: each value by its position, each segment under those it hangs under.

A message is read in two steps, each over all of its text at once. Its *shape* tells where values stand: that
of ``PID|1||100^^^WA&1.2~7`` is ``x|x||x^^^x&x~x``. Its *values* are what stands between delimiters, in order.
Senders write few shapes: the JSON of each is made once, with places for the values.
"""

from collections.abc import Iterator
from functools import lru_cache
from json.encoder import encode_basestring
from typing import NotRequired, TypedDict

import msgspec

from loaders.hl7.charset import UNFIT_BYTES
from loaders.hl7.delimiters import Delimiters, make_unescape
from loaders.hl7.rejects import RejectError

Repetition = dict[str, str]
"""Component ("4") or component.subcomponent ("4.2") → value; the first subcomponent is under "4"."""
Fields = dict[str, list[Repetition]]


class Segment(TypedDict):
    """A segment: its number from 1, and the numbers of the segments it hangs under."""

    n: int
    id: str
    parent: NotRequired[dict[str, int]]
    fields: Fields


# Half a pair: no text has it, and JSON leaves it as it is.
_NO_CHARACTER = "\ud800"
# Of the characters a value may have, those that JSON writes in another way.
_ESCAPED_IN_JSON = '"\\\n\t\v\f'
# The bounds keep memory small whatever is sent; a shape is some hundred characters long as a rule.
_KEPT_SHAPES, _LONGEST_KEPT_SHAPE = 4096, 1000
_KEPT_LISTS, _LONGEST_KEPT_LIST = 1024, 128
# These make one x of a value in the fewest steps (measured on results and admissions).
_RUNS = (b"xxxxxx", b"xxxx", b"xxx")

# What hangs under what: a segment under the open ones of lower levels. It ends those of its own and higher.
_LEVELS = {"PID": 1, "ORC": 2, "OBR": 3, "SPM": 4, "OBX": 5}
_NOTES = {"NTE": 6, "PRT": 6}
_OTHERS, _LOWEST = 5, 6


class Reader:
    """Reads texts in one set of delimiters and one character set; each begins with its header segment."""

    def __init__(self, delimiters: Delimiters, charset: str) -> None:
        """``charset`` is the one that hex escapes are in."""
        self._delimiters = delimiters
        self._unescape = make_unescape(delimiters, charset)
        # MSH-1 and MSH-2 are the delimiters themselves: values that are not to be split.
        self._header_size = len("MSH" + delimiters.field + delimiters.msh_2)
        self._header_values = [_quote(delimiters.field), _quote(delimiters.msh_2)]
        self._shape_table = _make_shape_table(delimiters)

    def header(self, text: str) -> Fields:
        """Decode the fields of the header segment alone.

        Raises:
            RejectError: E_CONTROL_CHARACTERS; or E_DELIMITERS, for text that goes on where MSH-2 should end.
        """
        line = text.split("\r", 1)[0]
        if line[self._header_size :][:1] not in {"", self._delimiters.field}:
            raise RejectError("E_DELIMITERS")
        (template,), values = self._read(line)
        fields: Fields = msgspec.json.decode(template[:-1] % values[1:])
        return fields

    def segments(self, text: str, message_type: str) -> str:
        """Decode all segments, with a carriage return between each two: a JSON list of ``Segment``.

        ``message_type`` (MSH-9.1) has a say in what hangs under what.

        Raises:
            RejectError: E_CONTROL_CHARACTERS.
        """
        names = tuple([line[:3] for line in text.split("\r")])
        make_heads = _heads if len(names) <= _LONGEST_KEPT_LIST else _heads.__wrapped__
        heads = make_heads(names, message_type == "OUL")
        templates, values = self._read(text)
        segments = [head + template for head, template in zip(heads, templates, strict=True)]
        return f"[{','.join(segments)}]" % values

    def _read(self, text: str) -> tuple[list[str], tuple[str, ...]]:
        """Give the JSON of each segment's fields, ``%s`` for a value, and all values, names among them."""
        field, component, repetition, escape, subcomponent, *_ = self._delimiters
        rest = text[self._header_size :]
        shape = rest.encode().translate(self._shape_table)
        if b"\0" in shape:
            raise RejectError("E_CONTROL_CHARACTERS")
        shape = b"x|x|x" + shape
        for run in _RUNS:
            shape = shape.replace(run, b"x")
        while b"xx" in shape:
            shape = shape.replace(b"xx", b"x")
        templates = [
            (_fields if len(line) <= _LONGEST_KEPT_SHAPE else _fields.__wrapped__)(line)
            for line in shape.decode().split("\r")
        ]

        is_escaped = escape != "" and escape in rest
        is_escaped_in_json = is_escaped or any(map(rest.__contains__, _ESCAPED_IN_JSON))
        for mark in (component, repetition, subcomponent, "\r"):
            if mark:
                rest = rest.replace(mark, field)
        values = list(filter(None, rest.split(field)))
        if is_escaped:
            values = [self._unescape(value) if escape in value else value for value in values]
        if is_escaped_in_json:
            values = _quote(_NO_CHARACTER.join(values)).split(_NO_CHARACTER)
        return templates, (text[:3], *self._header_values, *values)


def _make_shape_table(delimiters: Delimiters) -> bytes:
    """Make the table from UTF-8 to a shape: the usual delimiters, x for all else, NUL for what is unfit."""
    table = bytearray(b"x" * 256)
    for unfit in UNFIT_BYTES:
        table[unfit] = 0
    field, component, repetition, _, subcomponent, *_ = delimiters
    for sent, usual in zip((field, component, repetition, subcomponent, "\r"), "|^~&\r", strict=True):
        if sent:
            table[ord(sent)] = ord(usual)
    return bytes(table)


def _quote(value: str) -> str:
    return encode_basestring(value)[1:-1]


@lru_cache(maxsize=_KEPT_SHAPES)
def _fields(shape: str) -> str:
    """Decode a segment's shape: the JSON of ``Fields``, with ``%s`` for each value.

    What is absent, or holds nothing but delimiters, has no key; an empty repetition before others stays.
    """
    fields: Fields = {}
    for number, field in enumerate(shape.split("|")[1:], 1):
        repetitions = [_components(repetition) for repetition in field.split("~")]
        while repetitions and not repetitions[-1]:
            repetitions.pop()
        if repetitions:
            fields[str(number)] = repetitions
    return msgspec.json.encode(fields).decode().replace('"x"', '"%s"') + "}"


def _components(shape: str) -> Repetition:
    return {
        f"{c}.{s}" if s > 1 else str(c): value
        for c, component in enumerate(shape.split("^"), 1)
        for s, value in enumerate(component.split("&"), 1)
        if value
    }


@lru_cache(maxsize=_KEPT_LISTS)
def _heads(names: tuple[str, ...], is_oul: bool) -> list[str]:
    """Give the JSON of each segment up to its fields, with ``%s`` for its name."""
    return [
        f'{{"n":{n},"id":"%s","parent":{{{parent}}},"fields":' if parent else f'{{"n":{n},"id":"%s","fields":'
        for n, parent in enumerate(_parents(names, is_oul), 1)
    ]


def _parents(names: tuple[str, ...], is_oul: bool) -> Iterator[str]:
    """Give for each segment the JSON of what it hangs under, from near to far: ``"OBR":5,"PID":2``."""
    levels = _levels(names, is_oul)
    under = [""] * (_LOWEST + 1)
    for n, name in enumerate(names, 1):
        level = levels.get(name)
        if level is None:
            yield under[_NOTES.get(name, _OTHERS)]
            continue
        parent = under[level]
        yield parent
        opened = f'"{name}":{n},{parent}' if parent else f'"{name}":{n}'
        for lower in range(level + 1, _LOWEST + 1):
            under[lower] = opened


def _levels(names: tuple[str, ...], is_oul: bool) -> dict[str, int]:
    """Say what is above what in this message.

    A specimen belongs to the order before it, and orders to a specimen that comes before them all (OUL_R22,
    OML_O33). In an OUL an ORC may follow its OBR. Source: HL7 v2.5.1, chapters 4.4 and 7.3.
    """
    if "SPM" not in names and not is_oul:
        return _LEVELS
    order = sorted(("ORC", "OBR", "SPM"), key=lambda name: names.index(name) if name in names else len(names))
    if not is_oul:
        order = ["SPM", "ORC", "OBR"] if order[0] == "SPM" else ["ORC", "OBR", "SPM"]
    return {"PID": 1, order[0]: 2, order[1]: 3, order[2]: 4, "OBX": 5}
