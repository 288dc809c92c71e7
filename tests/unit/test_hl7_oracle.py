"""hl7apy as the oracle: where it loses nothing of a message, long names say what its tree says.

A message's values are counted here, by lines and separators alone. Where hl7apy's tree has as many, and as
many segments, each of its values stands in the long names at the path that the tree gives it. What may
differ is named by ``difference``, each by a rule, and counted. hl7apy is slow: files are sampled, unless
``CDW_ORACLE_ALL`` is set.
"""

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hl7apy
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message

from loaders.hl7.decoder import Message
from loaders.hl7.names import with_long_names
from loaders.hl7.stream import decode_stream

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared" / "hl7"
CORPUS = next(
    (p for p in (Path(os.environ.get("CDW_HL7_CORPUS", "/nonexistent")), SHARED) if p.is_dir()), None
)
OWN = (REPOSITORY / "examples" / "hl7", REPOSITORY / "tests" / "fixtures" / "hl7")
TAKE_ALL = bool(os.environ.get("CDW_ORACLE_ALL"))
# So many messages of a file, at equal steps, and none that is longer (in characters).
MESSAGES_OF_A_FILE = 25
LONGEST = 6_000
needs_corpus = pytest.mark.skipif(
    CORPUS is None, reason="no HL7 messages from elsewhere: neither CDW_HL7_CORPUS nor ../shared/hl7 is there"
)

VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")
Path_ = tuple[str, ...]
"""Names from the field on, the number of its repetition behind it."""
Groups = tuple[tuple[str, int], ...]
"""Names of groups from the message on, and which of its name each is."""
Segment = tuple[Groups, str, list[tuple[Path_, str]]]
"""Groups, name and values of a segment."""
UNPLACED: Path_ = ("?",)
"""The path of a value that the tree has and does not say where it stood."""


def messages(folder: Path) -> Iterator[tuple[str, int, Message]]:
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.suffix in (".md", ".tsv"):
            continue
        found = [r for r in decode_stream([file.read_bytes()], source=file.name) if isinstance(r, Message)]
        step = 1 if TAKE_ALL else max(1, len(found) // MESSAGES_OF_A_FILE)
        for position, message in enumerate(found[::step]):
            if TAKE_ALL or len(message.er7) <= LONGEST:
                yield file.name, position * step, message


# --- What was sent, counted. ----------------------------------------------------------------------


def sent_segments(er7: str) -> list[str]:
    return [line for line in re.split("[\r\n]+", er7.lstrip()) if line.strip()]


def count_values(er7: str) -> int:
    """Count the values that are sent, by the separators of MSH alone."""
    field, component, repetition, subcomponent = er7[3], er7[4], er7[5], er7[7]
    count = 0
    for line in sent_segments(er7):
        texts = line.split(field)[1:]
        if line.startswith("MSH"):
            count += 2  # MSH-1 and MSH-2
            texts = texts[1:]
        split = f"[{re.escape(component + repetition + subcomponent)}]"
        count += sum(bool(value) for text in texts for value in re.split(split, text))
    return count


# --- hl7apy's tree, walked: places from the tree, names from hl7apy's tables. ---------------------


@cache
def part(version: str, kind: str, place: str) -> tuple[str, str] | None:
    """Give name and type of a field (``PID_5``) or component (``CX_1``) in a version.

    One that is withdrawn has those of the last version before. The names that the overlay mends are the one
    thing that is no word of hl7apy's.
    """
    owner = place.rpartition("_")[0]
    for older in VERSIONS[VERSIONS.index(version) :: -1]:
        tables = hl7apy.load_library(older).ELEMENTS
        found = tables[kind].get(place)
        if not found or found[2] in ("WD", "wd"):
            continue
        children = tables["Datatypes_Structs"][owner] if kind == "Component" else tables["Segment"][owner][-1]
        if place in [child[0] for child in children]:
            mended = overlay().get((older, place), {})
            name = re.sub("[^A-Z0-9]+", "_", found[3])
            return mended.get("name", name), mended.get("datatype", found[2] or "")
    return None


@cache
def overlay() -> dict[tuple[str, str], dict[str, str]]:
    entries = tomllib.loads((REPOSITORY / "scripts" / "hl7_overlay.toml").read_text("utf-8"))["names"]
    return {(version, entry["place"]): entry for entry in entries for version in entry["versions"].split()}


@cache
def is_composite(version: str, datatype: str) -> bool:
    return part(version, "Component", f"{datatype}_1") is not None


def number_of(element: Any, position: int) -> int | None:
    """Give an element's number, from its name (``CX_4``); an only one may be called as its type is (``ST``).

    None for others that have no name: empty ones before them are gone, and with them their place.
    """
    found = re.fullmatch(r"\w+_(\d+)", element.name or "")
    if found:
        return int(found[1])
    return 1 if position == 1 else None


def tree_segments(tree: Any, groups: Groups = ()) -> Iterator[Segment]:
    """Give every segment of the tree, with its groups and its values."""
    seen: Counter[str] = Counter()
    for child in tree.children:
        if child.classname == "Group":
            yield from tree_segments(child, (*groups, (child.name, seen[child.name])))
            seen[child.name] += 1
        else:
            yield groups, child.name, [(path, value) for path, value in segment_values(child) if value]


def segment_values(segment: Any) -> Iterator[tuple[Path_, str]]:
    seen: Counter[str] = Counter()
    told = "".join(field.to_er7() for field in segment.children if field.name == "OBX_2")
    for field in segment.children:
        if not field.name:
            for leaf in (leaf for component in field.children for leaf in component.children):
                yield UNPLACED, leaf.to_er7()
            continue
        repetition = str(seen[field.name])
        seen[field.name] += 1
        name, datatype = part(field.version, "Field", field.name) or (field.name, "")
        if field.name == "OBX_5" and re.fullmatch("[A-Z][A-Z0-9]{1,2}", told):
            datatype = told
        if field.name in ("MSH_1", "MSH_2"):
            yield (name, repetition), field.to_er7()
            continue
        for path, value in field_values(field, datatype.upper(), field.name):
            yield path if path is UNPLACED else (name, repetition, *path), value


def field_values(field: Any, datatype: str, place: str) -> Iterator[tuple[Path_, str]]:
    """Give a field's values with their paths: component, subcomponent, as far as there are any."""
    leaves = [
        (number_of(component, c), number_of(leaf, s), leaf.to_er7())
        for c, component in enumerate(field.children, 1)
        for s, leaf in enumerate(component.children, 1)
        if leaf.to_er7()
    ]
    is_plain = not is_composite(field.version, datatype) and [leaf[:2] for leaf in leaves] == [(1, 1)]
    for c, s, value in leaves:
        if c is None or s is None:
            yield UNPLACED, value
            continue
        own = f"{datatype or place}_{c}"
        name, inner = part(field.version, "Component", own) or (own, "")
        deep = f"{inner or own}_{s}"
        below = (part(field.version, "Component", deep) or (deep, ""))[0]
        is_value = not is_composite(field.version, inner) and [
            leaf[1] for leaf in leaves if leaf[0] == c
        ] == [1]
        yield (() if is_plain else (name,) if is_value else (name, below)), value


# --- Long names, walked. --------------------------------------------------------------------------


def named_segments(message: Any) -> list[Segment]:
    """Give every segment of a message with long names, in the order in which they were sent."""
    return [segment for _, segment in sorted(numbered_segments(message), key=lambda found: found[0])]


def numbered_segments(content: Any, groups: Groups = ()) -> Iterator[tuple[int, Segment]]:
    for key, item in content.items():
        for i, element in enumerate(item if isinstance(item, list) else [item]):
            if key == "meta":
                continue
            if "n" in element:
                yield element["n"], (groups, key, list(named_values(element)))
            else:
                yield from numbered_segments(element, (*groups, (key, i)))


def named_values(segment: Any) -> Iterator[tuple[Path_, str]]:
    for name, field in segment.items():
        if name != "n":
            for r, repetition in enumerate(field if isinstance(field, list) else [field]):
                for path, value in inner_values(repetition):
                    yield (name, str(r), *path), value


def inner_values(content: Any, path: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    if isinstance(content, dict):
        for name, value in content.items():
            yield from inner_values(value, (*path, name))
    elif content is not None:
        yield path, content


# --- Both, compared. ------------------------------------------------------------------------------


def unescaped(text: str, er7: str) -> str:
    """Read the escapes that stand for one character: hl7apy leaves them, or leaves some."""
    escape = er7[6]
    marks = {"F": er7[3], "S": er7[4], "R": er7[5], "E": escape, "T": er7[7]}
    if len(er7.split(er7[3], 2)[1]) == 5:
        marks |= {"P": er7[8], "L": er7[8]}  # truncation; L is what hl7apy writes
    # to_er7() escapes what it has read: \\X0D\\ is \\E\\X0D\\E\\ then
    text = text.replace(f"{escape}E{escape}", escape)
    pattern = rf"{re.escape(escape)}(?:([FSTREPL])|X((?:[0-9A-F]{{2}})+)){re.escape(escape)}"
    return re.sub(
        pattern,
        lambda found: (
            marks.get(found[1].upper(), found[0]) if found[1] else bytes.fromhex(found[2]).decode("latin-1")
        ),
        text,
        flags=re.IGNORECASE,
    )


def difference(theirs: str, ours: str, er7: str) -> str | None:
    """Name what hl7apy does to a value: "" for nothing, None for what is not in the list."""
    if theirs == ours:
        return ""
    if theirs == ours.strip():
        return "trimmed"
    if re.fullmatch(r"[+-]?[0-9.]+", ours) and float(theirs) == float(ours):
        return "number rewritten"
    if unescaped(theirs, er7).strip() == ours.strip():
        return "escape left"
    return None


def compare(tree: list[Segment], named: list[Segment], er7: str) -> Counter[str]:
    """Count what differs between a tree's and our values, segment by segment of one name, in order."""
    found: Counter[str] = Counter()
    names = sorted({name for _, name, _ in tree + named})
    for name in names:
        theirs, ours = ([values for _, n, values in side if n == name] for side in (tree, named))
        if len(theirs) != len(ours):
            found["segments"] += 1
            continue
        for values, own in zip(theirs, ours, strict=True):
            rest = dict(own)
            assert len(rest) == len(own)
            for path, value in values:
                if path is not UNPLACED:
                    found[difference(value, rest.pop(path, "\0"), er7) or "value"] += value != dict(own).get(
                        path
                    )
            lost = sorted(value for path, value in values if path is UNPLACED)
            found["without place"] += len(lost)
            if len(lost) != len(rest) or any(
                difference(*pair, er7) is None for pair in zip(lost, sorted(rest.values()), strict=True)
            ):
                found["value"] += 1
    return +found


@cache
def compared(folder: Path) -> tuple[Counter[str], Counter[str], list[str]]:
    """Give counts of messages by outcome, of differences by name, and the places of those that disagree."""
    outcomes: Counter[str] = Counter()
    differences: Counter[str] = Counter()
    wrong: list[str] = []
    for name, position, message in messages(folder):
        er7 = re.sub("\r\n|\n", "\r", message.er7)
        try:
            tree = parse_message(er7, validation_level=VALIDATION_LEVEL.TOLERANT)
        except HL7apyException:
            outcomes["refused"] += 1
            continue
        theirs = list(tree_segments(tree))
        count = sum(len(values) for _, _, values in theirs)
        # segments without values, which it drops
        if count != count_values(er7) or len(theirs) != len(sent_segments(er7)):
            outcomes["lossy"] += 1
            continue
        ours = named_segments(with_long_names(message.record))
        found = compare(theirs, ours, er7)
        differences += found
        # hl7apy has a structure for each scheduling notice, HL7 one for all
        theirs = [
            (tuple((re.sub(r"^SIU_S\d\d", "SIU_S12", group), i) for group, i in g), n, v)
            for g, n, v in theirs
        ]
        groups = [Counter((g, n) for g, n, _ in side) for side in (theirs, ours)]
        if found["value"] or found["segments"]:
            wrong.append(f"{name} {position}")
        elif groups[0] == groups[1]:
            outcomes["equal"] += 1
        else:
            outcomes["equal, tree without groups" if tree.name is None else "equal, other groups"] += 1
    return outcomes, differences, wrong


@needs_corpus
def test_messages_from_elsewhere_agree() -> None:
    assert CORPUS
    outcomes, differences, wrong = compared(CORPUS)
    assert not wrong
    agreed = sum(count for outcome, count in outcomes.items() if outcome.startswith("equal"))
    assert agreed >= (1650 if TAKE_ALL else 380), outcomes
    # in the same groups, as far as hl7apy makes any
    assert outcomes["equal"] >= 0.97 * (agreed - outcomes["equal, tree without groups"]), outcomes
    assert outcomes["equal"] >= 0.85 * agreed, outcomes
    assert differences.keys() <= {"trimmed", "number rewritten", "escape left", "without place"}
    assert differences["trimmed"] + differences["number rewritten"] + differences["escape left"] < 500


def test_own_messages_agree() -> None:
    for folder in OWN:
        outcomes, differences, wrong = compared(folder)
        assert not wrong
        assert sum(count for outcome, count in outcomes.items() if outcome.startswith("equal")) > 10, outcomes
        assert differences.keys() <= {"trimmed", "number rewritten", "escape left", "without place"}


SENT = "\r".join(
    [
        r"MSH|^~\&|LAB|GENERAL|||20240102||ORU^R01^ORU_R01|M1|P|2.5.1",
        "PID|||4711^^^GENERAL^MR~4712||DOE&VAN^JANE",
        "OBR|1||F1|8867-4",
        r"OBX|01|NM|8867-4||72.0||a \T\ b",
        "OBX|2|CE|1||A^text ",
    ]
)


@pytest.mark.parametrize(
    ("ours", "found"),
    [
        (SENT, {"number rewritten": 1, "escape left": 1, "trimmed": 1}),
        (SENT.replace("4712", "4713"), "value"),
        (SENT.replace("4711^", "4711^^"), "value"),
        (SENT.replace("72.0", "72.1"), "value"),
        (SENT.replace("text ", "other"), "value"),
        (SENT.replace(r"\T\ b", r"\S\ b"), "value"),
        (SENT.replace("F1|8867-4", "F1||8867-4"), "value"),
        (SENT.replace("OBX|2|CE", "OBX|2|CX"), "value"),
        (SENT + "\rOBX|3", "segments"),
    ],
)
def test_the_comparison_sees_a_difference(ours: str, found: Any) -> None:
    """The tree of one message against the long names of another that differs in one thing."""
    tree = list(tree_segments(parse_message(SENT, validation_level=VALIDATION_LEVEL.TOLERANT)))
    (message,) = decode_stream([ours.encode()], source="test")
    assert isinstance(message, Message)
    differences = compare(tree, named_segments(with_long_names(message.record)), SENT)
    if isinstance(found, str):
        assert differences[found]
    else:
        assert differences == found
