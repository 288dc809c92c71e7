"""Make the HL7 dictionary: what every segment, field and component is called, by version.

Reads hl7apy's tables (MIT, see NOTICE) and ``hl7_overlay.toml`` beside this file, and writes

- ``loaders/hl7/dictionary.json``, which ``loaders/hl7/dictionary.py`` explains;
- ``seeds/hl7/hl7_dictionary.csv``, the same names for analysts.

    .venv/bin/python scripts/make_hl7_dictionary.py [DIRECTORY]
"""

import csv
import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")
DICTIONARY = "loaders/hl7/dictionary.json"
SEED = "seeds/hl7/hl7_dictionary.csv"
OVERLAY = Path(__file__).with_name("hl7_overlay.toml")


class Part(NamedTuple):
    """A field of a segment or a component of a data type."""

    name: str
    datatype: str
    is_repeated: bool

    def __str__(self) -> str:
        """Give it as it stands in the dictionary: ``PATIENT_NAME XPN*``."""
        return f"{self.name} {self.datatype}{'*' if self.is_repeated else ''}"


Parts = dict[str, dict[int, Part]]
"""Segment or data type → number → part."""
History = list[tuple[int, str]]
"""What holds from a version (its index in VERSIONS) on; "" is nothing."""


class OverlayError(ValueError):
    """An overlay entry that does nothing, or a defect of the tables that it does not mend."""


def main(directory: Path) -> None:
    """Write both files under a directory."""
    overlay = tomllib.loads(OVERLAY.read_text("utf-8"))
    tables = [_Tables(version, overlay) for version in VERSIONS]
    structures, events = _structures(tables, overlay)
    segments = _histories([table.segments for table in tables])
    datatypes = _histories([table.datatypes for table in tables])
    content = {
        "versions": VERSIONS,
        "structures": structures,
        "events": events,
        "segments": segments,
        "datatypes": datatypes,
    }
    for name, text in ((DICTIONARY, _json(content)), (SEED, None)):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text:
            path.write_text(text, "utf-8")
            continue
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                ["element", "field", "component", "name", "datatype", "from_version", "to_version"]
            )
            writer.writerows(_seed(segments, datatypes))


def _json(content: dict[str, Any]) -> str:
    """One line a structure, segment or type: a change of the tables reads as a change of lines."""
    lines = ["{"]
    for key, value in content.items():
        if isinstance(value, dict):
            entries = (
                f"{json.dumps(name)}:{json.dumps(value[name], separators=(',', ':'))}"
                for name in sorted(value)
            )
            lines += [f'"{key}":{{', ",\n".join(entries), "},"]
        else:
            lines.append(f'"{key}":{json.dumps(value)},')
    lines[-1] = lines[-1].removesuffix(",")
    return "\n".join([*lines, "}", ""])


class _Tables:
    """hl7apy's tables of one version, mended."""

    def __init__(self, version: str, overlay: dict[str, Any]) -> None:
        package = "hl7apy.v" + version.replace(".", "_")
        fields = importlib.import_module(package + ".fields").FIELDS
        types = importlib.import_module(package + ".datatypes")
        self.version = version
        self.messages: dict[str, Any] = dict(importlib.import_module(package + ".messages").MESSAGES)
        self.groups: dict[str, Any] = importlib.import_module(package + ".groups").GROUPS
        self.segments = self._parts(
            {
                name: _children(ref)
                for name, ref in importlib.import_module(package + ".segments").SEGMENTS.items()
            },
            fields,
        )
        self.datatypes = self._parts(types.DATATYPES_STRUCTS, types.DATATYPES)
        self._mend(overlay)

    @staticmethod
    def _parts(owners: dict[str, Any], known: dict[str, Any]) -> Parts:
        """Read ``(name, …, (minimum, maximum), …)`` by ``known``: name → ``(…, type, long name, …)``."""
        parts: Parts = {}
        for owner, children in owners.items():
            parts[owner] = {}
            for child, _, (_, maximum), _ in children:
                if child not in known:  # withdrawn in this version
                    continue
                datatype, name = known[child][2:4]
                parts[owner][int(child.rpartition("_")[2])] = Part(
                    re.sub("[^A-Z0-9]+", "_", name.upper()),  # "SET_ID___AFF", "NAME_ID NO"
                    str(datatype or "").upper(),
                    maximum < 0 or maximum > 1,
                )
        return parts

    def _mend(self, overlay: dict[str, Any]) -> None:
        for entry in overlay["drop"]:
            self.datatypes.pop(entry.get("datatype"), None)
            if self.version in entry.get("versions", "").split():
                for structure in entry["structures"].split():
                    if not self.messages.pop(structure, None):
                        raise OverlayError(f"{structure} is not in {self.version}")
        for entry in overlay["names"]:
            if self.version not in entry["versions"].split():
                continue
            owner, number = entry["place"].rsplit("_", 1)
            parts = self.segments if owner in self.segments else self.datatypes
            old = parts[owner][int(number)]
            new = Part(entry.get("name", old.name), entry.get("datatype", old.datatype), old.is_repeated)
            if new == old:
                raise OverlayError(f"{entry['place']} needs no mending in {self.version}")
            parts[owner][int(number)] = new
        for parts in (self.segments, self.datatypes):
            for owner, members in parts.items():
                names = [part.name for part in members.values()]
                if len(names) > len(set(names)) or not all(re.match("[A-Z]", name) for name in names):
                    raise OverlayError(f"{owner} in {self.version} has a name twice, or none")
                if not all(part.datatype for part in members.values()):
                    raise OverlayError(f"{owner} in {self.version} has a part without a type")


def _children(reference: Any) -> Any:
    """Give what a segment, group or message consists of; 2.1 lacks the kind (ORO), 2.7 all of it (QRD)."""
    if reference and isinstance(reference[0], str):
        return reference[1] if len(reference) > 1 else ()
    return reference


def _structures(
    tables: list[_Tables], overlay: dict[str, Any]
) -> tuple[dict[str, History], dict[str, list[str]]]:
    """Give every structure's history, and for a type and event that is none the structures it may take."""
    texts = [
        {name: _shape(table, reference, name) for name, reference in table.messages.items()}
        for table in tables
    ]
    for entry in overlay["structures"]:
        for version, known in list(zip(VERSIONS, texts, strict=True))[VERSIONS.index(entry["since"]) :]:
            if known.get(entry["name"]):
                raise OverlayError(f"{entry['name']} is in {version}")
            known[entry["name"]] = known[entry["like"]]
    histories = {
        name: _history([known.get(name, "") for known in texts])
        for name in {n for known in texts for n in known}
    }
    events: dict[str, list[str]] = {}
    for entry in overlay["events"]:
        for event in entry["events"].split():
            if event in events:
                raise OverlayError(f"{event} stands twice")
            events[event] = entry["structures"]
            if not any(event not in known and known.keys() & set(entry["structures"]) for known in texts):
                raise OverlayError(f"{event} needs no entry")
        for structure in entry["structures"]:
            if structure not in histories:
                raise OverlayError(f"{structure} is in no version")
    return histories, events


_QUANTIFIERS = {(1, 1): "", (0, 1): "?", (0, -1): "*", (1, -1): "+"}


def _shape(table: _Tables, reference: Any, structure: str) -> str:
    """Write a structure down: ``MSH SFT* _PATIENT?(PID PD1?) …``; ``_`` stands for the structure's own name.

    A choice is ``|(…)``.
    """
    words: list[str] = []
    for name, _, cardinality, kind in _children(reference):
        quantifier = _QUANTIFIERS[cardinality]
        if kind == "SEG":
            words.append(name + quantifier)
            continue
        group = table.groups[name]
        short = name.removeprefix(structure) if name.startswith(structure + "_") else name
        mark = "|" if group[0] == "choice" else ""
        words.append(f"{short}{quantifier}{mark}({_shape(table, group, structure)})")
    return " ".join(words)


def _histories(versions: list[Parts]) -> dict[str, list[History]]:
    """Give for every segment or type its parts' histories, by number from 1.

    What a version withdraws, or gives the type WD, keeps its last name and type: it is still sent. Only where
    another part has taken that name it has none.
    """
    histories: dict[str, list[History]] = {}
    for owner in {owner for parts in versions for owner in parts}:
        count = max((max(parts.get(owner, {}), default=0) for parts in versions), default=0)
        texts: list[list[str]] = [[] for _ in range(count)]
        last: dict[int, Part] = {}
        for parts in versions:
            current = {
                n: last[n] if part.datatype == "WD" and n in last else part
                for n, part in parts.get(owner, {}).items()
            }
            taken = {part.name for part in current.values()}
            last = {n: part for n, part in last.items() if part.name not in taken} | current
            for number in range(1, count + 1):
                texts[number - 1].append(str(last.get(number, "")))
        histories[owner] = [_history(text) for text in texts]
    return {owner: history for owner, history in histories.items() if history}


def _history(texts: list[str]) -> History:
    return [(i, text) for i, text in enumerate(texts) if text != (texts[i - 1] if i else "")]


def _at(history: History, version: int) -> str:
    return next((text for since, text in reversed(history) if since <= version), "")


def _seed(
    segments: dict[str, list[History]], datatypes: dict[str, list[History]]
) -> Iterator[tuple[str | int, ...]]:
    """Give a row a field of a segment, a component of a data type, and a run of versions that name it alike.

    A field's component is 0, a component's field is 0: types are used by many fields, and some are called as
    segments are.
    """
    for owners, is_segment in ((segments, True), (datatypes, False)):
        for owner in sorted(owners):
            for number, history in enumerate(owners[owner], 1):
                place = (number, 0) if is_segment else (0, number)
                runs = _history([_at(history, version).removesuffix("*") for version in range(len(VERSIONS))])
                ends = [since - 1 for since, _ in runs[1:]] + [len(VERSIONS) - 1]
                for (since, text), end in zip(runs, ends, strict=True):
                    if text:
                        yield owner, *place, *text.split(" "), VERSIONS[since], VERSIONS[end]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
