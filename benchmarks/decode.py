"""The HL7 v2 decoder beside hl7apy, python-hl7 and what no Python decoder can go below, in one run.

``make bench-decode`` prints tables of CPU time a message and of ratios. Messages are made here, each with
values of its own, in the shapes that senders use: nulls, repetitions, subcomponents, escapes, a Z segment.
"""

import hashlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hl7
import msgspec
from hl7apy.parser import parse_message

from loaders.hl7.charset import read_text
from loaders.hl7.decoder import decode
from loaders.hl7.delimiters import read_delimiters
from loaders.hl7.segments import Reader

ROUNDS = 7
MESSAGES = 200
"""Different messages of each kind; hl7apy gets the first few of them."""
SECONDS = 0.25
"""CPU time of one measurement, at least."""
GIGABYTE = 1_000_000_000
CDW = Path(sys.executable).with_name("cdw")

_to_json = msgspec.json.Encoder().encode


def make_adt(rng: random.Random) -> bytes:
    """Make an admission (ADT^A01): 9 segments, 1 KB."""
    n = rng.randrange(10**6, 10**7)
    return _join(
        _header(rng, "ADT^A01^ADT_A01"),
        f"EVN||{_time(rng)}|||{n % 977}^Clerk^{_name(rng)}",
        _patient(rng, n),
        f"PD1||||{n % 431}^{_name(rng)}^{_name(rng)}^^^Dr",
        f"NK1|1|{_name(rng)}^{_name(rng)}|SPO^Spouse^HL70063|{n % 99} Elm Street^^Springfield^IL^62701||^PRN^PH^^1^217^{n}",
        f"PV1|1|I|W{n % 9}^{n % 30}^{n % 4}^NORTH||||{n % 431}^{_name(rng)}^{_name(rng)}|||MED||||||||V{n}^^^NORTH^VN"
        + "|" * 25
        + _time(rng),
        'AL1|1|DA|70618^Penicillin^RXNORM|SV|Rash \\T\\ fever|""',
        f"DG1|1||I10^Essential hypertension^I10||{_time(rng)}|A",
        f"ZPV|{n % 7}|own field^with parts|{_name(rng)}",
    )


def make_oru(rng: random.Random, observations: int) -> bytes:
    """Make results (ORU^R01): 5 segments and an OBX for each observation; 0.8 KB and 120 bytes for each."""
    n = rng.randrange(10**6, 10**7)
    return _join(
        _header(rng, "ORU^R01^ORU_R01"),
        _patient(rng, n),
        f"PV1|1|I|W{n % 9}^{n % 30}^{n % 4}^NORTH",
        f"ORC|RE|P{n}|F{n}|||||||||{n % 431}^{_name(rng)}^{_name(rng)}",
        f"OBR|1|P{n}|F{n}|24323-8^Comprehensive metabolic panel^LN|||{_time(rng)}|||||||||{n % 431}^{_name(rng)}||||||{_time(rng)}||CH|F",
        *(
            f"OBX|{i}|NM|{2000 + i}-{i % 10}^Analyte {i}^LN||{rng.randrange(1, 5000) / 10}|mg/dL^milligram per"
            f" deciliter^UCUM|10-200|{rng.choice(['N', 'H', 'L', ''])}|||F|||{_time(rng)}||{n % 57}^{_name(rng)}^Lab"
            for i in range(1, observations + 1)
        ),
    )


def _join(*segments: str) -> bytes:
    return "".join(segment + "\r" for segment in segments).encode()


def _header(rng: random.Random, message_type: str) -> str:
    control_id = rng.randrange(10**9)
    return (
        f"MSH|^~\\&|LABSYS^1.2.3.4^ISO|NORTH|CDW|NORTH|{_time(rng)}+0100||{message_type}|M{control_id}|P|2.5.1"
        "|||AL|NE||UNICODE UTF-8"
    )


def _patient(rng: random.Random, n: int) -> str:
    return (
        f"PID|1||{n}^^^NORTH&1.2.3&ISO^MR~{n * 7}^^^SSA^SS||{_name(rng)}^{_name(rng)}^Q||19{n % 90 + 10}0{n % 9 + 1}17"
        f"|{rng.choice('FM')}|||{n % 999} Main Street^^Springfield^IL^62701^USA^H||^PRN^PH^^1^217^{n}|||M"
    )


def _name(rng: random.Random) -> str:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randrange(4, 11))).capitalize()


def _time(rng: random.Random) -> str:
    return f"2025{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}{rng.randrange(24):02}{rng.randrange(60):02}00"


def ours(message: bytes) -> bytes:
    """Bytes to the line that ``cdw decode`` writes: JSON with names of positions, parents, sha256 and text."""
    decoded = decode(message)
    segments = msgspec.Raw(decoded.segments.encode())
    return _to_json({"meta": decoded.meta, "segments": segments, "er7": decoded.er7})


def with_hl7apy(message: bytes) -> object:
    """Parse, and walk to the values; no JSON, no hash."""
    return _walk(parse_message(message.decode()))


def _walk(element: Any) -> object:
    if not element.children:
        return element.to_er7()
    return [(child.name, _walk(child)) for child in element.children]


def with_python_hl7(message: bytes) -> object:
    """Parse, and go to dicts of unescaped values; no JSON, no hash, no parents."""
    parsed = hl7.parse(message.decode())
    return [
        {
            "id": str(segment[0]),
            "fields": {
                f: [_repetition(parsed, repetition) for repetition in field]
                for f, field in enumerate(segment[1:], 1)
                if str(field)
            },
        }
        for segment in parsed
    ]


def _repetition(parsed: Any, repetition: Any) -> object:
    if isinstance(repetition, str):
        return {1: parsed.unescape(repetition)}
    return {
        (c, s): parsed.unescape(str(value))
        for c, component in enumerate(repetition, 1)
        for s, value in enumerate([component] if isinstance(component, str) else component, 1)
    }


def split_only(message: bytes) -> object:
    """The least that tells segments and fields apart: nothing decoded, nothing kept."""
    return [segment.split("|") for segment in message.decode().split("\r")]


def stages_of(message: bytes) -> dict[str, Callable[[], object]]:
    """Say what ``ours`` consists of; the names are those of the table."""
    decoded = decode(message)
    text = decoded.er7.rstrip("\r")
    reader = Reader(read_delimiters(text), "utf-8")
    return {
        "bytes to text": lambda: read_text(message, ["UNICODE UTF-8"]),
        "MSH": lambda: reader.header(text),
        "shapes, values": lambda: reader._read(text),
        "and into JSON": lambda: reader.segments(text, "ORU"),
        "sha256": lambda: hashlib.sha256(message).hexdigest(),
        "the line": lambda: _to_json(
            {"meta": decoded.meta, "segments": msgspec.Raw(decoded.segments.encode()), "er7": decoded.er7}
        ),
    }


def cpu_microseconds(function: Callable[[Any], object], messages: list[bytes]) -> float:
    """Measure CPU time a call, over all messages as often as it takes."""
    calls, begin = 0, time.process_time()
    while (spent := time.process_time() - begin) < SECONDS:
        for message in messages:
            function(message)
        calls += len(messages)
    return spent / calls * 1e6


def _cpu_microseconds_of(function: Callable[[], object]) -> float:
    return cpu_microseconds(lambda _: function(), [b""] * 100)


def compare() -> None:
    """Print CPU time and ratios for each kind of message: medians of rounds, contenders in turn in each."""
    rng = random.Random(1)
    kinds = {
        "ADT": [make_adt(rng) for _ in range(MESSAGES)],
        "ORU, 5 OBX": [make_oru(rng, 5) for _ in range(MESSAGES)],
        "ORU, 50 OBX": [make_oru(rng, 50) for _ in range(MESSAGES)],
    }
    contenders: dict[str, tuple[Callable[[bytes], object], int]] = {
        "cdw": (ours, MESSAGES),
        "hl7apy": (with_hl7apy, 3),
        "python-hl7": (with_python_hl7, 20),
        "split only": (split_only, MESSAGES),
    }
    print("| message | bytes | cdw, µs | hl7apy / cdw | python-hl7 / cdw | cdw / split only |")
    print("|---|---|---|---|---|---|")
    for kind, messages in kinds.items():
        rounds = [
            {
                name: cpu_microseconds(function, messages[:count])
                for name, (function, count) in contenders.items()
            }
            for _ in range(ROUNDS)
        ]

        def middle(over: str, under: str = "", rounds: list[dict[str, float]] = rounds) -> float:
            return statistics.median(r[over] / (r[under] if under else 1) for r in rounds)

        print(
            f"| {kind} | {statistics.mean(map(len, messages)):.0f} | {middle('cdw'):.0f} "
            f"| {middle('hl7apy', 'cdw'):.0f} | {middle('python-hl7', 'cdw'):.1f} | {middle('cdw', 'split only'):.1f} |"
        )

    message = kinds["ORU, 50 OBX"][0]
    whole = _cpu_microseconds_of(lambda: ours(message))
    print("\n| of one ORU, 50 OBX | µs | share |\n|---|---|---|")
    print(f"| all | {whole:.1f} | 100% |")
    before = 0.0
    for stage, function in stages_of(message).items():
        spent = _cpu_microseconds_of(function)
        alone = spent - before if stage == "and into JSON" else spent
        print(f"| {stage} | {alone:.1f} | {alone / whole:.0%} |")
        before = spent


def gigabyte(directory: Path) -> None:
    """Print time and memory of ``cdw decode`` on a file of 1 GB, with one worker and with two in turn."""
    feed = directory / "feed.hl7"
    rng = random.Random(2)
    block = b"".join(make_oru(rng, 50) if n % 4 else make_adt(rng) for n in range(2000))
    with feed.open("wb") as file:
        for _ in range(GIGABYTE // len(block) + 1):
            file.write(block)
    size = feed.stat().st_size / 1e9
    print(f"\n| {size:.2f} GB | wall, s | MB/s | largest process, MB |\n|---|---|---|---|")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for workers in (1, 2) * 3:
        begin = time.perf_counter()
        memory = peak_megabytes([str(CDW), "decode", str(feed), "--workers", str(workers)])
        seconds[workers].append(time.perf_counter() - begin)
        spent = seconds[workers][-1]
        print(
            f"| {workers} worker{'s' * (workers > 1)} | {spent:.1f} | {size * 1000 / spent:.0f} | {memory:.0f} |"
        )
    ratio = statistics.median(one / two for one, two in zip(seconds[1], seconds[2], strict=True))
    print(f"\nTwo workers are {ratio:.2f} times as fast as one, on {os.cpu_count()} cores.")


def peak_megabytes(command: list[str]) -> float:
    """Run a command, its output thrown away, and tell the memory of its largest process."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return usage.ru_maxrss / 1024


if __name__ == "__main__":
    compare()
    with tempfile.TemporaryDirectory() as directory:
        gigabyte(Path(directory))
