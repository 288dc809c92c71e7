"""What hl7apy finds wrong with a message, without any of its values.

hl7apy is read when first asked for: it is slow to start, and slow to run (10 to 100 messages a second).
"""

import os
import re
from contextlib import suppress
from functools import lru_cache
from tempfile import TemporaryFile

from loaders.hl7.dictionary import find_structure

V_HL7APY = "V_HL7APY"
"""hl7apy itself fails on the message; the name of its exception follows."""

# What hl7apy's Validator writes, in which an element is named by its path, or printed as <Segment PID>.
_PATH = r"(?P<path>[\w.]+)"
_PRINTED = r"<\w+ (?P<path>\w+)[^<>]*>"
_FINDINGS = [
    (code, re.compile(rf"(?:Error|Warning): {text}"))
    for code, text in (
        ("V_REQUIRED", rf"Missing required child {_PATH}"),
        ("V_TOO_MANY", rf"Child limit exceeded {_PATH}"),
        ("V_TOO_LONG", rf"Exceeded max length \((?P<rule>\d+)\) of {_PATH}"),
        ("V_TABLE", rf"Value .* not in table (?P<rule>HL7\d+) in element {_PATH}"),
        ("V_DATATYPE", rf"Datatype .* is not correct for {_PATH} \(.*\)"),
        ("V_NOT_ALLOWED", rf"Invalid children detected for {_PRINTED}: .*"),
        ("V_UNKNOWN", rf"Unknown element found: (?:{_PRINTED}|None)\..*"),
        ("V_UNKNOWN", rf"Invalid element found: {_PRINTED}"),
    )
]
_LONGEST = 64
"""Characters of a name that is looked up, and remembered; the longest that hl7apy has is a group's of 58."""
_SITE_DEFINED = re.compile(r"Z[A-Z0-9]{2}(_\d{1,3})?|VARIES_\d{1,3}")


def findings(er7: str, version: str) -> list[str]:
    """Give hl7apy's findings on a message, such as ``V_REQUIRED PID.PID_3`` or ``V_TABLE HL70001 PID.PID_8``.

    Each stands once, in hl7apy's order. Names that HL7 does not know are left out: they may be text.

    Args:
        er7: the message as sent.
        version: that of the dictionary to judge it by, whatever its MSH-12 says.
    """
    try:
        lines = _report(_prepared(er7, version))
        return list(dict.fromkeys(_finding(line, version) for line in lines))
    except Exception as error:
        # The message is decoded already. Whatever fails here is worth a warning, and its text may be a value.
        return [f"{V_HL7APY} {type(error).__name__}"]


def _prepared(er7: str, version: str) -> str:
    """Give a message as hl7apy takes it: CR alone, joined lines, a version it has, a structure (MSH-9.3).

    Its characters are made ASCII, for hl7apy writes values to a file in an encoding of its own choice.
    """
    text = re.sub(r"[^\r\x20-\x7e]", "?", re.sub(r"\r\n|\n", "\r", er7).strip("\r\x0b\x1c "))
    separator = text[3:4]
    is_segment = re.compile(rf"[A-Z][A-Z0-9]{{2}}({re.escape(separator)}|\Z)")
    segments: list[str] = []
    for line in text.split("\r"):
        if not segments or is_segment.match(line):
            segments.append(line)
        else:
            segments[-1] += " " + line
    fields = segments[0].split(separator)
    fields += [""] * (12 - len(fields))
    fields[11] = version
    event = fields[8].split(fields[1][:1] or "^")
    if len(event) == 2 and (structure := find_structure(version, *event)):
        fields[8] = (fields[1][:1] or "^").join([*event, structure])
    return "\r".join([separator.join(fields), *segments[1:]])


def _report(message: str) -> list[str]:
    """Let hl7apy write its report, in a file that has no name and is its owner's alone: it quotes values."""
    from hl7apy.consts import VALIDATION_LEVEL  # noqa: PLC0415 - slow, and only needed here
    from hl7apy.exceptions import HL7apyException  # noqa: PLC0415
    from hl7apy.parser import parse_message  # noqa: PLC0415
    from hl7apy.validation import Validator  # noqa: PLC0415

    parsed = parse_message(message, validation_level=VALIDATION_LEVEL.TOLERANT)
    with TemporaryFile() as file:
        with suppress(HL7apyException):  # the first finding, which is in the report too
            Validator.validate(parsed, report_file=os.dup(file.fileno()))
        file.seek(0)
        return file.read().decode().splitlines()


def _finding(line: str, version: str) -> str:
    for code, pattern in _FINDINGS:
        if found := pattern.fullmatch(line):
            rule = found.groupdict().get("rule")
            path = found["path"]
            if path and not all(
                len(name) <= _LONGEST and _is_known(name, version) for name in path.split(".")
            ):
                path = None
            return " ".join(filter(None, (code, rule, path)))
    return V_HL7APY


@lru_cache(maxsize=1024)
def _is_known(name: str, version: str) -> bool:
    from hl7apy import load_library  # noqa: PLC0415

    elements = load_library(version).ELEMENTS
    return bool(_SITE_DEFINED.fullmatch(name)) or any(name in kind for kind in elements.values())
