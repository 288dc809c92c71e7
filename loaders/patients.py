"""Whom a raw record names: one patient identifier, found in records of every topic as the models find it.

An identifier is a pair: the authority that issued it, as the marts call it, and the id. In HL7 v2 it is
sought in PID-2, PID-3, PID-4, MRG-1, MRG-2 and MRG-4, with its authority by CX.4.1, else CX.4.2, else the
facility, through the seed ``identifier_authorities``.
"""

import base64
import binascii
import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from loaders.errors import CdwError
from loaders.topics import load_patient_authorities

_SEED = Path("seeds/terminology/identifier_authorities.csv")
_FIELDS = {"PID": ("2", "3", "4"), "MRG": ("1", "2", "4")}
_CONTROL = re.compile(r"[\x00-\x1f]")
_WORD = rb"[0-9A-Za-z]"


class Identifier(NamedTuple):
    """A patient identifier as the marts have it."""

    authority: str
    id: str


def parse_identifier(text: str) -> Identifier:
    """Read ``AUTHORITY/ID``; an id may hold slashes, an authority none.

    Raises:
        ValueError: a part is missing.
    """
    authority, slash, number = text.strip().partition("/")
    if not (authority and slash and number):
        raise ValueError
    return Identifier(authority, number)


class Finder:
    """Tells whether a record names one identifier."""

    def __init__(self, identifier: Identifier, project: Path) -> None:
        """Read what decides over authorities from the project.

        Raises:
            CdwError: the project's variables or its seed cannot be read.
        """
        self._identifier = identifier
        self._authorities = _read_seed(project / _SEED)
        telemetry, ehr = load_patient_authorities(project)
        self.is_in_telemetry = identifier.authority == telemetry
        self.is_in_ehr = identifier.authority == ehr
        self._token = _token(identifier.id)

    def is_in_message(self, message: str) -> bool:
        """Whether a value of ``hl7.messages`` names the identifier; in one of another shape, as in bytes."""
        value = json.loads(message)
        try:
            segments: list[dict[str, Any]] = value["segments"]
            facility = _clean(value["meta"].get("sending_facility"))
            if facility is None:
                facility = next((_clean(one.get("4.2")) for one in segments[0]["fields"].get("4", [])), None)
            return any(self._identifier == found for found in self._identifiers(segments, facility))
        except (AttributeError, IndexError, KeyError, TypeError):
            return self.is_in_bytes(message.encode())

    def _identifiers(self, segments: list[dict[str, Any]], facility: str | None) -> Iterator[Identifier]:
        for segment in segments:
            for number in _FIELDS.get(segment["id"], ()):
                for repetition in segment["fields"].get(number, ()):
                    found = _clean(repetition.get("1"))
                    if found is not None:
                        yield Identifier(self._authority(repetition, facility), found)

    def _authority(self, repetition: Mapping[str, Any], facility: str | None) -> str:
        sent = _clean(repetition.get("4")) or _clean(repetition.get("4.2")) or facility or ""
        return self._authorities.get((facility or "", sent)) or self._authorities.get(("*", sent)) or sent

    def is_in_bytes(self, data: bytes) -> bool:
        """Whether bytes that nobody could read hold the id as a word, whosever it may be; in base64 too."""
        return bool(self._token.search(data)) or any(map(self._token.search, _inner(data)))

    def is_in_headers(self, headers: str) -> bool:
        """Whether a name or value among a record's headers, as raw keeps them, holds the id as a word."""
        return any(map(self.is_in_bytes, _header_parts(headers)))


def is_in_key(key: str, name: str, number: str) -> bool:
    """Whether a record's key is an id, or JSON (with its schema or without) in which the field has it."""
    if key == number:
        return True
    try:
        value = json.loads(key)
    except ValueError:
        return False
    value = value.get("payload", value) if isinstance(value, dict) else None
    return isinstance(value, dict) and str(value.get(name)) == number


def _inner(data: bytes) -> Iterator[bytes]:
    """The bytes in a line of the originals' topic or a value of the rejects', if it is one."""
    try:
        value = json.loads(data)
        yield base64.b64decode(value["bytes"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return


def _header_parts(headers: str) -> Iterator[bytes]:
    """The names and values; a value that is no text stands there in base64."""
    for entry in json.loads(headers):
        yield entry["key"].encode()
        yield (entry.get("value") or "").encode()
        yield base64.b64decode(entry.get("base64", ""))


def _token(number: str) -> re.Pattern[bytes]:
    encoded = {number.encode(), number.encode("latin-1", "ignore")} - {b""}
    words = [rb"(?<!%b)%b(?!%b)" % (_WORD, re.escape(one), _WORD) for one in sorted(encoded)]
    wide = [re.escape(number.encode(name)) for name in ("utf-16-le", "utf-16-be")]
    return re.compile(b"|".join(words + wide))


def _clean(value: object) -> str | None:
    """As the macro hl7_clean has it: blanks around do not count, and HL7's null names nothing."""
    if not isinstance(value, str) or _CONTROL.search(value):
        return None
    text = value.strip(" ")
    return None if text in {"", '""'} else text


def _read_seed(file: Path) -> dict[tuple[str, str], str]:
    """(facility or ``*``, authority as sent) -> authority."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            return {
                (row["facility_id"], row["sent_authority"]): row["authority"]
                for row in csv.DictReader(stream)
            }
    except (OSError, UnicodeDecodeError, KeyError, csv.Error):
        raise CdwError(
            "the seed of identifier authorities cannot be read",
            where=str(file),
            do="restore it with the columns facility_id, sent_authority and authority",
        ) from None
