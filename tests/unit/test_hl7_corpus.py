"""Messages that nobody here wrote: almost all are accepted, and none loses or moves a value.

The walk over a message is written a second time here, as plain as can be; it shares nothing with the decoder.
"""

import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from loaders.hl7.decoder import Record
from loaders.hl7.rejects import Reject
from loaders.hl7.stream import Message, decode_stream

REPOSITORY = Path(__file__).resolve().parents[2]
CORPUS = next(
    (
        folder
        for folder in (
            Path(os.environ.get("CDW_HL7_CORPUS", "/nonexistent")),
            REPOSITORY.parent / "shared" / "hl7",
        )
        if folder.is_dir()
    ),
    None,
)
EXAMPLES = REPOSITORY / "examples" / "hl7"
needs_corpus = pytest.mark.skipif(
    CORPUS is None, reason="no HL7 messages from elsewhere: neither CDW_HL7_CORPUS nor ../shared/hl7 is there"
)

Leaf = tuple[int, str, int, int, int, int, str]


@cache
def results() -> dict[Path, list[Message | Reject]]:
    folders = [EXAMPLES, *(sorted(CORPUS.iterdir()) if CORPUS else [])]
    files = [
        file
        for folder in folders
        if folder.is_dir()
        for file in sorted(folder.iterdir())
        if file.suffix != ".md"
    ]
    return {
        file: list(decode_stream([file.read_bytes()], source=file.name))
        for file in files
        if not file.name.startswith(".")
    }


def messages() -> list[tuple[Path, Message]]:
    return [(file, r) for file, found in results().items() for r in found if isinstance(r, Message)]


@needs_corpus
def test_at_least_99_percent_are_accepted() -> None:
    assert CORPUS
    accepted: Counter[str] = Counter()
    rejected: Counter[tuple[str, str]] = Counter()
    for file, found in results().items():
        if file.parent != EXAMPLES:
            for result in found:
                if isinstance(result, Message):
                    accepted[file.parent.name] += 1
                else:
                    rejected[file.parent.name, result["code"]] += 1
    # 1,761 messages; the fifth reject is what stands before the first message of a file
    assert accepted.total() == 1757
    assert rejected == {
        ("CDCgov+data-exchange-hl7", "E_NO_MESSAGE_TYPE"): 3,
        ("CDCgov+data-exchange-hl7", "E_DELIMITERS"): 1,
        ("CDCgov+data-exchange-hl7", "E_NO_MSH"): 1,
    }
    assert accepted["aws-samples+hcls-data-lake"] == 11


@needs_corpus
def test_the_simulated_hospital_decodes_whole() -> None:
    found = next(found for file, found in results().items() if file.name.endswith("hl7_2-3_samples.txt"))
    assert len(found) == 1013
    assert all(isinstance(result, Message) for result in found)


def delimiters(msh_2: str) -> tuple[str, str, str]:
    """Component, repetition and subcomponent separator, for each MSH-2 that occurs here."""
    if msh_2 == "^\\&":
        return "^", "\0", "&"
    return msh_2[0], msh_2[1], msh_2[-1] if len(msh_2) < 5 else "&"


def sent_leaves(er7: str) -> list[Leaf]:
    """Every value of a message with its place, escapes left alone."""
    lines: list[str] = []
    for line in re.split("\r\n|\r|\n", er7.strip("\r\n")):
        if re.match(r"[A-Z][A-Z0-9]{2}(\W|$)", line):
            lines.append(line)
        else:
            lines[-1] += "\n" + line
    separator = er7[3]
    component, repetition, subcomponent = delimiters(er7[4:].split(separator, maxsplit=1)[0])
    leaves: list[Leaf] = []
    for n, line in enumerate(lines, 1):
        name, *fields = re.sub(r"\n\s*\Z", "", line).split(separator)  # less the blank lines after it
        if name == "MSH":
            leaves += [(n, name, 1, 1, 1, 1, separator), (n, name, 2, 1, 1, 1, fields[0])]
            fields = ["", "", *fields[1:]]
        leaves += [
            (n, name, f, r, c, s, value)
            for f, field in enumerate(fields, 1)
            for r, repeated in enumerate(field.split(repetition), 1)
            for c, part in enumerate(repeated.split(component), 1)
            for s, value in enumerate(part.split(subcomponent), 1)
            if value
        ]
    return leaves


def unescaped(value: str, separator: str, msh_2: str) -> str:
    """The escapes that occur here, one after the other."""
    component, repetition, subcomponent = delimiters(msh_2)
    meant = {
        "F": separator,
        "S": component,
        "R": repetition,
        "T": subcomponent,
        "P": "#",
        "X0D": "\r",
        "X0A": "\n",
    }
    mark = msh_2[2]
    for code, text in {**meant, "XC3A9": "é", "E": mark}.items():
        value = value.replace(f"{mark}{code}{mark}", text)
    return value


def decoded_leaves(record: Record) -> list[Leaf]:
    leaves: list[Leaf] = []
    for segment in record["segments"]:
        for field, repetitions in segment["fields"].items():
            for r, values in enumerate(repetitions, 1):
                for path, value in values.items():
                    c, _, s = path.partition(".")
                    leaves.append((segment["n"], segment["id"], int(field), r, int(c), int(s or 1), value))
    return leaves


def test_no_value_is_lost_or_moved() -> None:
    assert len(messages()) > 20
    for file, message in messages():
        sent, decoded = sent_leaves(message.record["er7"]), decoded_leaves(message.record)
        assert [leaf[:6] for leaf in decoded] == [leaf[:6] for leaf in sent], file.name
        separator, msh_2 = sent[0][6], sent[1][6]
        for before, after in zip(sent, decoded, strict=True):
            assert after[6] == before[6] or after[6] == unescaped(before[6], separator, msh_2), (
                file.name,
                before[:6],
            )


def test_the_text_kept_is_the_bytes_that_came() -> None:
    for file, message in messages():
        text = message.data.decode(message.record["meta"]["charset"]).removeprefix("\ufeff")
        if "W_FRAMING" not in message.record["meta"]["warnings"]:
            assert message.record["er7"] == text, file.name
        assert message.data in file.read_bytes()
