"""Fuzz the HL7 decoder for as long as it is told to: ``python -m tests.fuzz.fuzz_hl7 SECONDS``.

Coverage leads it from the project's examples and fixtures, and from public messages where they are at hand,
to inputs that nobody thought of. Each has to hold what ``tests/unit/hl7_invariants.py`` says. One that does
not is saved under ``.cache/fuzz/findings`` by its sha256, and never printed; the exit code is then 1. Such a
file is decoded again, with the traceback, by ``python -m tests.fuzz.fuzz_hl7 --again FILE``.

It needs atheris, which no other part of the project does; there is one for Linux on x86-64.
"""

import argparse
import hashlib
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / ".cache" / "fuzz"
INPUTS, FINDINGS = FOLDER / "inputs", FOLDER / "findings"

# What chance alone would take long to write.
WORDS = [
    b"MSH|^~\\&|", b"MSH#*:?@#", b"MSH|^~&|", b"\rMSH|^~\\&|||||||ADT^A01|1|P|2.5", b"OUL^R22", b"|^~&",
    b"FHS|^~\\&|", b"BHS|^~\\&|", b"BTS|", b"FTS|", b"\rPID|", b"\rORC|", b"\rOBR|", b"\rOBX|", b"\rSPM|",
    b"\rNTE|", b"\rNKA", b"\rADD|", b"\rADD\r", b"\rDSC|", b"||||||8859/1", b"||||||UNICODE UTF-8",
    b"||||||~ISO IR87", b"\x0b", b"\x1c\r", b"\x1a", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\r\n",
    b"\\X41\\", b"\\XC3\\\\XA9\\", b"\\F\\", b"\\S\\", b"\\T\\", b"\\R\\", b"\\E\\", b"\\P\\", b"\\.br\\",
    b'""', b"\x1b$B", b"\x1b(B",
]  # fmt: skip

# Longer inputs find little more and take longer; what is in proportion to size has tests of its own.
_LONGEST_INPUT = 4096
# Of what libFuzzer prints; its other lines quote what it has found in inputs.
_STATISTICS = re.compile(rb"#\d+\s+(?:INITED|pulse|DONE)\s|Done |INFO: seed corpus|a finding: ")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="fuzz_hl7", description="Fuzz the HL7 decoder.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("seconds", nargs="?", type=int, help="how long")
    what.add_argument(
        "--again", type=Path, metavar="FILE", help="decode a saved input once, with its traceback"
    )
    what.add_argument("--fuzz", type=int, metavar="SECONDS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.again:
        checker()(arguments.again.read_bytes())
    elif importlib.util.find_spec("atheris") is None:
        sys.exit(
            "fuzz_hl7: atheris is not installed here; `pip install atheris` (Linux, CPython 3.11 to 3.13)"
        )
    elif arguments.fuzz:
        _fuzz(arguments.fuzz)
    else:
        sys.exit(_watch(arguments.seconds))


def _watch(seconds: int) -> int:
    """Fuzz in a process of its own: libFuzzer prints the input it dies of, and that is nobody's business."""
    for folder in (INPUTS, FINDINGS):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = {file.name for file in FINDINGS.iterdir()}
    command = [sys.executable, "-m", "tests.fuzz.fuzz_hl7", "--fuzz", str(seconds)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as fuzzer:
        assert fuzzer.stderr
        for line in fuzzer.stderr:
            if _STATISTICS.match(line):
                _say(line.decode(errors="replace").rstrip())
    for file in FOLDER.glob("died-*"):  # too slow, or too much memory: libFuzzer's own names
        _say(f"a finding: {file.name.split('-')[1]}")
        file.rename(FINDINGS / hashlib.sha256(file.read_bytes()).hexdigest())
    found = {file.name for file in FINDINGS.iterdir()} - before
    _say(f"{len(found)} findings" + (f" in {FINDINGS.relative_to(REPOSITORY)}" if found else ""))
    if fuzzer.returncode and not found:
        _say(f"the fuzzer ended with {fuzzer.returncode}")
    return 1 if found or fuzzer.returncode else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def checker() -> Callable[[bytes], None]:
    """Import what is fuzzed, and give the check of one input."""
    from loaders.hl7.stream import decode_stream  # noqa: PLC0415 - atheris has to see it imported
    from tests.unit.hl7_invariants import check, check_chunks  # noqa: PLC0415

    def run(data: bytes) -> None:
        check(data)
        check_chunks(data, (len(data) % 61 + 1,))
        for _ in decode_stream([data], source="input", max_bytes=len(data) // 3 + 1):
            pass

    return run


def _fuzz(seconds: int) -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["loaders.hl7"]):
        run = checker()
    seen: set[tuple[str, str, int]] = set()

    def run_and_go_on(data: bytes) -> None:
        try:
            run(data)
        except Exception as error:
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            assert where
            code = where.tb_frame.f_code
            kind = (type(error).__name__, Path(code.co_filename).name, where.tb_lineno)
            if kind not in seen:  # one of each: its words may hold what was sent
                seen.add(kind)
                name = hashlib.sha256(data).hexdigest()
                _save(FINDINGS / name, data)
                sys.stderr.write(f"a finding: {kind[0]} at {kind[1]}:{kind[2]}, {name}\n")
                sys.stderr.flush()

    words = FOLDER / "words"
    words.write_text("".join(f'"{_hex(word)}"\n' for word in WORDS))
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_LONGEST_INPUT}",
        f"-dict={words}",
        f"-artifact_prefix={FOLDER}/died-",
        "-timeout=20",
        "-rss_limit_mb=1024",
    ]
    atheris.Setup([sys.argv[0], str(INPUTS), *map(str, _seeds()), *options], run_and_go_on)
    atheris.Fuzz()


def _hex(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _save(file: Path, data: bytes) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
        opened.write(data)


def _seeds() -> list[Path]:
    """Give the folders to begin from; they are read where they lie."""
    public = Path(os.environ.get("CDW_HL7_CORPUS", REPOSITORY.parent / "shared" / "hl7"))
    return [
        REPOSITORY / "examples" / "hl7",
        REPOSITORY / "tests" / "fixtures" / "hl7",
        *([public] if public.is_dir() else []),
    ]


if __name__ == "__main__":
    main()
