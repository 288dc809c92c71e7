"""hl7apy's findings, and none of what was sent."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from loaders.hl7.decoder import Message
from loaders.hl7.stream import decode_stream
from loaders.hl7.validate import _finding, findings

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared" / "hl7"
CORPUS = next(
    (p for p in (Path(os.environ.get("CDW_HL7_CORPUS", "/nonexistent")), SHARED) if p.is_dir()), None
)
MSH = r"MSH|^~\&|LAB|GENERAL|||20240102||ADT^A01^ADT_A01|M1|P|2.5.1"
VALID = [MSH, "EVN||20240102", "PID|||4711^^^GENERAL^MR||DOE&VAN^JANE", "PV1||I"]
FINDING = re.compile(
    r"V_(REQUIRED|TOO_MANY|DATATYPE|NOT_ALLOWED|UNKNOWN)( [A-Z][\w.]*)?"
    r"|V_TOO_LONG \d+( [A-Z][\w.]*)?|V_TABLE HL7\d+( [A-Z][\w.]*)?|V_HL7APY( [A-Za-z]\w*)?"
)


def found(*segments: str, version: str = "2.5.1") -> list[str]:
    return findings("\r".join(segments), version)


def test_a_valid_message_has_none() -> None:
    assert found(*VALID) == []


@pytest.mark.parametrize(
    ("segments", "finding"),
    [
        ([*VALID[:2], VALID[3]], "V_REQUIRED ADT_A01.PID"),
        ([*VALID[:2], "PID|||4711", VALID[3]], "V_REQUIRED PID.PID_5"),
        ([*VALID, VALID[3]], "V_TOO_MANY ADT_A01.PV1"),
        ([*VALID[:2], VALID[2] + "|||secretsex", VALID[3]], "V_TABLE HL70001 PID.PID_8"),
        ([*VALID[:2], VALID[2] + "|" * 40 + "secret", VALID[3]], "V_NOT_ALLOWED PID"),
        ([MSH.replace("A01^ADT_A01", "A04"), VALID[2], VALID[3]], "V_REQUIRED ADT_A01.EVN"),
        ([MSH.replace("A01", "X99"), VALID[2]], "V_UNKNOWN"),
    ],
)
def test_a_finding_names_the_element_and_the_rule(segments: list[str], finding: str) -> None:
    assert finding in found(*segments)


def test_no_finding_tells_what_was_sent() -> None:
    secret = "XSECRETX"
    pid = "PID|" + "|".join(
        [f"{secret}^{secret}&{secret}~{secret} not in table HL70001 in element {secret}"] * 45
    )
    for version in ("2.1", "2.3", "2.5.1", "2.8.2"):
        told = found(
            *VALID,
            pid,
            f"{secret}^|{secret}",
            f"Z{secret[:2]}|{secret}",
            f"OBX|1|{secret}|{secret}||{secret}",
            f"XSE|{secret}",
            version=version,
        )
        assert told
        assert not [finding for finding in told if "SECRET" in finding.upper() or "XSE" in finding]
        assert all(FINDING.fullmatch(finding) for finding in told)


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("Error: Missing required child PID.PID_3", "V_REQUIRED PID.PID_3"),
        ("Error: Missing required child ZPI.ZPI_3", "V_REQUIRED ZPI.ZPI_3"),
        ("Error: Missing required child PID.DOE", "V_REQUIRED"),
        ("Error: Missing required child DOE.PID_3", "V_REQUIRED"),
        ("Error: Invalid children detected for <Segment DOE>: ['X']", "V_NOT_ALLOWED"),
        ("Warning: Value A not in table HL70001 in element PID.PID_8", "V_TABLE HL70001 PID.PID_8"),
        ("Error: something new about DOE", "V_HL7APY"),
    ],
)
def test_a_name_that_hl7_does_not_know_is_left_out(line: str, finding: str) -> None:
    assert _finding(line, "2.5.1") == finding


@pytest.mark.parametrize(
    "er7",
    [
        "",
        "no message",
        "MSH",
        "MSH|",
        r"MSH|^~\&",
        r"MSH|^^^^|a",
        "MSH|^~\\&|||||||" + "^" * 2000,
        "MSH|^~\\&|\0\n\x85é",
    ],
)
def test_a_failure_of_hl7apy_is_a_finding(er7: str) -> None:
    told = findings(er7, "2.5.1")
    assert told
    assert all(FINDING.fullmatch(finding) for finding in told)


def test_the_version_is_the_one_asked_for() -> None:
    odd = MSH.replace("2.5.1", "2.99")
    assert found(odd, *VALID[1:]) == []
    assert found(odd, *VALID[1:], version="2.1") != []


def test_line_ends_and_continuation_lines_change_nothing() -> None:
    long = [*VALID, "OBX|1|TX|8867-4||some text"]
    plain = found(*long)
    assert findings("\r\n".join(long) + "\r\n", "2.5.1") == plain
    assert findings("\n".join(long) + "\nPV1 goes on, é\u2028 x\n", "2.5.1") == plain


def test_hl7apy_is_read_when_asked_for() -> None:
    code = "import sys, loaders.hl7.validate; print('hl7apy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(
    CORPUS is None, reason="no HL7 messages from elsewhere: neither CDW_HL7_CORPUS nor ../shared/hl7 is there"
)
def test_messages_from_elsewhere() -> None:
    """Every eighth file: findings of the expected forms only, and most messages go through hl7apy."""
    assert CORPUS
    files = sorted(
        f for f in CORPUS.rglob("*") if f.is_file() and f.suffix != ".md" and f.stat().st_size < 50_000
    )
    told: Counter[str] = Counter()
    count = 0
    for file in files[::8]:
        for message in decode_stream([file.read_bytes()], source=file.name):
            if isinstance(message, Message):
                count += 1
                for finding in findings(message.er7, message.meta["dictionary"]):
                    assert FINDING.fullmatch(finding), file.name
                    told[finding.split(" ")[0]] += 1
    assert count > 80
    assert told["V_HL7APY"] < count / 5
    assert len(told) >= 5
