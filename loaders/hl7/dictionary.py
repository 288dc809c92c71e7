"""What HL7 calls things, by version: structures of messages, names of fields and components.

Source: ``dictionary.json``, made from hl7apy's tables by ``scripts/make_hl7_dictionary.py``. A history in it
is a list of ``[version, text]``: what holds from that version (its index in ``versions``) on; "" is nothing.

- ``structures``: name → history of shapes, such as ``MSH SFT* _PATIENT?(PID PD1?)``: ``_`` stands for the
  structure's own name, ``?*+`` for optional, any number and at least one, ``|(…)`` for a choice.
- ``events``: type and event that is no structure → the structures it may take.
- ``segments``, ``datatypes``: name → one history a field or component, of ``NAME TYPE``, with a ``*`` where
  it repeats. What a version withdrew keeps its last name.

It is read when first asked for (some milliseconds). Answers are remembered, so nothing is looked up that is
longer than ``LONGEST``: what a message says where a name belongs may be of any size.
"""

import json
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple, TypedDict

DEFAULT_VERSION = "2.5.1"
"""For messages that tell none: it names more of what is sent as its senders do than any other."""

LONGEST = 32
"""Characters of what is looked up; the longest name in the dictionary has 20."""

_VERSION = re.compile(r"(?<![\d.])(\d)\.(\d)(?:\.?(\d))?(?!\d)")

History = list[tuple[int, str]]


class _Content(TypedDict):
    versions: list[str]
    structures: dict[str, History]
    events: dict[str, list[str]]
    segments: dict[str, list[History]]
    datatypes: dict[str, list[History]]


class Part(NamedTuple):
    """A field of a segment or a component of a data type."""

    name: str
    datatype: str
    is_repeated: bool


def dictionary_version(sent: str | None) -> str:
    """Give the nearest lower version that there is for what MSH-12 says: ``2.9`` → ``2.8.2``.

    ``v2.3`` and ``2.3.z`` are 2.3, ``2.51`` is 2.5.1; what is below 2.1 is 2.1. What is absent or names no
    version (``2``), or is longer than ``LONGEST``, is ``DEFAULT_VERSION``.
    """
    return _dictionary_version(sent) if sent and len(sent) <= LONGEST else DEFAULT_VERSION


@lru_cache(maxsize=1024)
def _dictionary_version(sent: str) -> str:
    found = _VERSION.search(sent)
    if not found:
        return DEFAULT_VERSION
    wanted = tuple(int(number) for number in found.groups("0"))
    return next((version for key, version in reversed(_versions()) if key <= wanted), _versions()[0][1])


def find_structure(version: str, message_type: str, trigger_event: str | None) -> str | None:
    """Give the structure (HL7 table 0354) of a message type and event in a dictionary version.

    That is the structure of that name, such as ``ADT_A01``; else the one the event shares (``ADT_A04`` →
    ``ADT_A01``); else that of the type alone (``ACK``); else what an earlier version had and this one has
    withdrawn (``ORM_O01`` in 2.8); else that of the first later version that has one (``OML_O21`` in 2.3.1).
    None where nothing is known.
    """
    if len(message_type) > LONGEST or (trigger_event and len(trigger_event) > LONGEST):
        return None
    return _find_structure(version, message_type, trigger_event)


@lru_cache(maxsize=4096)
def _find_structure(version: str, message_type: str, trigger_event: str | None) -> str | None:
    content, index = _content(), _index(version)
    name = f"{message_type}_{trigger_event}" if trigger_event else message_type
    shared = content["events"].get(name, [])
    histories = content["structures"]
    for structure in (name, *shared, message_type):
        if _at(histories.get(structure, []), index):
            return structure
    for structure in (*shared, name):
        if any(shape and since <= index for since, shape in histories.get(structure, [])):
            return structure
    for later in range(index + 1, len(content["versions"])):
        for structure in (name, *shared):
            if _at(histories.get(structure, []), later):
                return structure
    return None


def shape_of(version: str, structure: str) -> str | None:
    """Give a structure's shape in a dictionary version, else its last one before, else its first one after.

    None where no version has it.
    """
    if len(structure) > LONGEST:
        return None
    index = _index(version)
    shapes = [(since, shape) for since, shape in _content()["structures"].get(structure, []) if shape]
    return next(
        (shape for since, shape in reversed(shapes) if since <= index), shapes[0][1] if shapes else None
    )


def fields_of(version: str, segment: str) -> tuple[Part | None, ...]:
    """Give a segment's fields in a dictionary version, the first at 0; None where one has no name."""
    return _fields_of(version, segment) if len(segment) <= LONGEST else ()


@lru_cache(maxsize=4096)
def _fields_of(version: str, segment: str) -> tuple[Part | None, ...]:
    return _parts(_content()["segments"].get(segment, []), version)


def components_of(version: str, datatype: str) -> tuple[Part | None, ...]:
    """Give a data type's components in a dictionary version; none of a primitive or unknown type."""
    return _components_of(version, datatype) if len(datatype) <= LONGEST else ()


@lru_cache(maxsize=4096)
def _components_of(version: str, datatype: str) -> tuple[Part | None, ...]:
    return _parts(_content()["datatypes"].get(datatype, []), version)


def _parts(histories: list[History], version: str) -> tuple[Part | None, ...]:
    texts = [_at(history, _index(version)) for history in histories]
    while texts and not texts[-1]:
        texts.pop()
    return tuple(_part(text) if text else None for text in texts)


def _part(text: str) -> Part:
    name, _, datatype = text.removesuffix("*").partition(" ")
    return Part(name, datatype, text.endswith("*"))


def _at(history: History, index: int) -> str:
    return next((text for since, text in reversed(history) if since <= index), "")


@cache
def _versions() -> list[tuple[tuple[int, ...], str]]:
    return [(tuple(int(n) for n in (v + ".0").split(".")[:3]), v) for v in _content()["versions"]]


@cache
def _index(version: str) -> int:
    return _content()["versions"].index(version)


@cache
def _content() -> _Content:
    content: _Content = json.loads(Path(__file__).with_name("dictionary.json").read_bytes())
    return content
