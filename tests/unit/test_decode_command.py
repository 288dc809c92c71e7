"""``cdw decode`` and ``cdw ingest``: what goes where, what is refused, and what is left behind."""

import base64
import fcntl
import hashlib
import json
import os
import select
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loaders.decode import decode_files
from loaders.errors import CdwError
from loaders.ingest import ingest_to_directory
from loaders.parallel import write_in_order

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples" / "hl7"
GOLDEN = Path(__file__).parent / "golden"

GOOD = b"MSH|^~\\&|APP|FAC|||20260102||ADT^A01|%d|P|2.5\rPID|1||77001^^^FAC^MR||Zzcanary^Testa\r"
BAD = b"MSH|^~\\&|APP|FAC|||20260102|||3|P|2.5\rPID|1||77003^^^FAC^MR||Zzcanary^Testo\r"
TOPICS = ("hl7.messages", "hl7.originals", "hl7.rejected")


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    file = tmp_path / "feed.hl7"
    file.write_bytes(GOOD % 1 + BAD + GOOD % 2)
    return file


def cdw(*arguments: str | Path, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = "from loaders.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", command, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=120,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
    )


def lines(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.splitlines()]


def topic(directory: Path, name: str) -> list[Any]:
    return lines((directory / f"{name}.jsonl").read_bytes())


@pytest.mark.parametrize("expected", sorted(GOLDEN.glob("*.jsonl")), ids=lambda file: file.stem)
def test_examples_decode_to_what_was_read_by_eye(expected: Path) -> None:
    done = cdw("decode", EXAMPLES / f"{expected.stem}.hl7")
    assert done.returncode == 0
    assert done.stdout == expected.read_bytes()


def test_all_examples_decode_and_only_the_broken_ones_are_rejected(tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.jsonl"
    files = sorted(str(file) for file in EXAMPLES.glob("*.hl7"))
    with (tmp_path / "records.jsonl").open("wb") as out:
        counts = decode_files(files, out=out, rejects=rejects)
    assert (counts.messages, counts.rejects) == (39, 8)
    found = lines(rejects.read_bytes())
    assert {reject["source"] for reject in found} == {"broken.hl7", "broken_charset.hl7", "broken_frames.hl7"}
    codes = "E_NO_MSH E_NO_MESSAGE_TYPE E_DELIMITERS E_CONTROL_CHARACTERS E_CHARSET E_EMPTY E_FRAME"
    assert {reject["code"] for reject in found} == set(codes.split())


def test_records_go_to_stdout_and_rejects_to_their_file_only(feed: Path, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.jsonl"
    done = cdw("decode", feed, "--rejects", rejects)
    assert done.returncode == 0
    records = lines(done.stdout)
    assert [record["meta"]["control_id"] for record in records] == ["1", "2"]
    assert list(records[0]) == ["meta", "segments", "er7"]
    (reject,) = lines(rejects.read_bytes())
    assert (reject["code"], reject["position"], reject["byte_offset"]) == (
        "E_NO_MESSAGE_TYPE",
        2,
        len(GOOD % 1),
    )
    assert base64.b64decode(reject["bytes"]) == BAD
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600


def test_stderr_says_where_and_nothing_of_the_patient(feed: Path) -> None:
    done = cdw("decode", feed)
    digest = hashlib.sha256(BAD).hexdigest()
    assert done.stderr.decode().splitlines() == [
        f"feed.hl7: E_NO_MESSAGE_TYPE position 2 byte {len(GOOD % 1)} sha256 {digest}",
        "2 messages decoded, 1 rejected",
    ]


def test_strict_fails_on_a_reject_only(feed: Path, tmp_path: Path) -> None:
    assert cdw("decode", feed, "--strict").returncode == 1
    feed.write_bytes(GOOD % 1)
    assert cdw("decode", feed, "--strict").returncode == 0


def test_standard_input() -> None:
    done = cdw("decode", "-", stdin=GOOD % 1 + BAD)
    assert [record["meta"]["control_id"] for record in lines(done.stdout)] == ["1"]
    assert done.stderr.startswith(b"stdin: E_NO_MESSAGE_TYPE")


@pytest.mark.parametrize("command", ["decode", "ingest"])
@pytest.mark.parametrize("missing", ["nowhere.hl7", "."])
def test_a_file_that_cannot_be_read_fails_before_anything_is_written(
    command: str, missing: str, feed: Path, tmp_path: Path
) -> None:
    to_dir = tmp_path / "topics"
    option, target = (
        ("--to-dir", to_dir) if command == "ingest" else ("--rejects", tmp_path / "rejects.jsonl")
    )
    done = cdw(command, feed, tmp_path / missing, option, target)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"cdw: an input file cannot be read")
    assert str(tmp_path / missing).encode() in done.stderr
    assert sorted(tmp_path.iterdir()) == [feed]


def test_the_reject_file_cannot_be_an_input(feed: Path) -> None:
    before = feed.read_bytes()
    done = cdw("decode", feed, "--rejects", feed)
    assert done.returncode == 1
    assert b"one of the input files" in done.stderr
    assert feed.read_bytes() == before


def test_a_reject_file_that_cannot_be_written_is_said(feed: Path, tmp_path: Path) -> None:
    done = cdw("decode", feed, "--rejects", tmp_path / "no" / "such" / "folder")
    assert done.returncode == 1
    assert b"the output cannot be written" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_said(feed: Path, workers: int) -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(CdwError, match="cannot be written"),
    ):
        decode_files([str(feed)], out=full, workers=workers)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reader_that_goes_away_is_said_without_a_trace(tmp_path: Path, workers: str) -> None:
    (tmp_path / "long.hl7").write_bytes((GOOD % 1) * 20_000)
    command = [
        sys.executable,
        "-c",
        "from loaders.cli import main; main()",
        "decode",
        str(tmp_path / "long.hl7"),
        "--workers",
        workers,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 1
    assert b"Traceback" not in told
    assert b"Exception" not in told


def test_names_and_findings_are_there_when_asked_for(feed: Path) -> None:
    feed.write_bytes(GOOD % 1)
    (named,) = lines(cdw("decode", feed, "--names").stdout)
    assert named["PID"]["PATIENT_NAME"] == [{"FAMILY_NAME": {"SURNAME": "Zzcanary"}, "GIVEN_NAME": "Testa"}]
    (record,) = lines(cdw("decode", feed, "--validate").stdout)
    assert "V_REQUIRED ADT_A01.EVN" in record["meta"]["warnings"]
    assert lines(cdw("decode", feed).stdout)[0]["meta"]["warnings"] == []
    (both,) = lines(cdw("decode", feed, "--names", "--validate").stdout)
    assert both == named | {"meta": record["meta"]}


def test_several_workers_write_what_one_writes(tmp_path: Path) -> None:
    feed, rejects = tmp_path / "feed.hl7", tmp_path / "rejects.jsonl"
    envelope = b"FHS|^~\\&|||||||||F1\rBHS|^~\\&|||||||||B%d\r"
    parts = [GOOD % n + BAD * (n % 7 == 0) + (envelope % n) * (n % 1000 == 0) for n in range(20_000)]
    feed.write_bytes(b"".join(parts))
    done = []
    for workers in ("1", "3"):
        run = cdw("decode", feed, "-", "--rejects", rejects, "--workers", workers, stdin=GOOD % 1 + b"x")
        done.append((run.returncode, run.stdout, run.stderr, rejects.read_bytes()))
    assert done[0] == done[1]
    assert len(done[0][1].splitlines()) == 20_001


def test_a_fifo_is_read_once(feed: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["/bin/sh", "-c", f"cat {feed} > {fifo}"]):
        assert len(lines(cdw("decode", fifo).stdout)) == 2


def test_what_is_no_regular_file_keeps_its_mode(feed: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o640)
    with subprocess.Popen(["/bin/sh", "-c", f"cat {fifo}"], stdout=subprocess.PIPE) as reader:
        assert cdw("decode", feed, "--rejects", fifo).returncode == 0
        assert reader.stdout and len(lines(reader.stdout.read())) == 1
    assert stat.S_IMODE(fifo.stat().st_mode) == 0o640


def test_workers_end_with_the_first_process() -> None:
    command = [sys.executable, "-c", "from loaders.cli import main; main()", "decode", "-", "--workers", "2"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=REPOSITORY
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write((GOOD % 1) * 100_000)
        process.stdin.flush()
        process.stdout.readline()  # both are at work
        process.kill()
        while True:  # it ends when nobody holds it any more
            assert select.select([process.stdout], [], [], 20)[0], "a worker is still there"
            if not os.read(process.stdout.fileno(), 1 << 16):
                break


def _die(number: int) -> tuple[bytes, int]:
    if number == 7:
        os._exit(9)
    return b"%d\n" % number, number


def test_a_worker_that_dies_is_told_and_nobody_waits_for_it(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, pytest.raises(CdwError, match="ended from outside"):
        list(write_in_order(_die, range(100), out, workers=3))
    assert (tmp_path / "out").read_bytes() in b"".join(b"%d\n" % n for n in range(7))


def test_the_settings_reach_the_decoder(feed: Path) -> None:
    feed.write_bytes(GOOD % 1 + "NTE|1||Łódź\r".encode("iso-8859-2"))
    done = cdw("decode", feed, CDW_HL7_FALLBACK_CHARSET="iso-8859-2")
    assert lines(done.stdout)[0]["segments"][2]["fields"]["3"] == [{"1": "Łódź"}]
    done = cdw("decode", feed, CDW_HL7_FALLBACK_CHARSET="rot13")
    assert done.returncode == 1
    assert b"CDW_HL7_FALLBACK_CHARSET" in done.stderr
    feed.write_bytes(GOOD % 1 + b"NTE|" + b"x" * 1000)
    assert b"E_TOO_LARGE" in cdw("decode", feed, CDW_MAX_RECORD_BYTES="1000").stderr


def test_ingest_appends_messages_originals_and_rejects(feed: Path, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "topics"
    done = cdw("ingest", feed, "--to-dir", directory)
    assert (done.returncode, done.stdout) == (0, b"2 messages decoded, 1 rejected\n")
    messages, originals, rejected = (topic(directory, name) for name in TOPICS)
    assert [message["meta"]["control_id"] for message in messages] == ["1", "2"]
    assert [list(message) for message in messages] == [["meta", "segments"]] * 2
    assert [base64.b64decode(original["bytes"]) for original in originals] == [GOOD % 1, GOOD % 2]
    assert [original["sha256"] for original in originals] == [m["meta"]["sha256"] for m in messages]
    assert [base64.b64decode(reject["bytes"]) for reject in rejected] == [BAD]


def test_a_long_reject_keeps_its_bytes_among_the_originals(feed: Path, tmp_path: Path) -> None:
    data = BAD + b"OBX|1|ED|||" + b"A" * 50_000
    feed.write_bytes(data)
    ingest_to_directory([str(feed)], tmp_path)
    (reject,), (original,) = topic(tmp_path, "hl7.rejected"), topic(tmp_path, "hl7.originals")
    assert reject["bytes"] == {"sha256": original["sha256"], "bytes": len(data)}
    assert base64.b64decode(original["bytes"]) == data


def test_ingest_only_appends(feed: Path, tmp_path: Path) -> None:
    directory = tmp_path / "topics"
    ingest_to_directory([str(feed)], directory)
    before = {name: (directory / f"{name}.jsonl").read_bytes() for name in TOPICS}
    ingest_to_directory([str(feed)], directory)
    for name, data in before.items():
        assert data.endswith(b"\n")
        assert (directory / f"{name}.jsonl").read_bytes() == data * 2


def test_a_line_that_a_killed_program_left_is_ended_not_continued(feed: Path, tmp_path: Path) -> None:
    torn = tmp_path / "hl7.messages.jsonl"
    torn.write_bytes(b'{"whole":1}\n{"to')
    ingest_to_directory([str(feed)], tmp_path)
    first, second, *rest = torn.read_bytes().split(b"\n")
    assert (first, second) == (b'{"whole":1}', b'{"to')
    assert [json.loads(line)["meta"]["control_id"] for line in rest if line] == ["1", "2"]


def test_topic_directories_are_their_owners_alone(feed: Path, tmp_path: Path) -> None:
    directory = tmp_path / "topics"
    ingest_to_directory([str(feed)], directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for name in TOPICS:
        assert stat.S_IMODE((directory / f"{name}.jsonl").stat().st_mode) == 0o600


def test_two_programs_do_not_append_at_once(feed: Path, tmp_path: Path) -> None:
    with (tmp_path / "hl7.messages.jsonl").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(CdwError, match="another program"):
            ingest_to_directory([str(feed)], tmp_path)
    ingest_to_directory([str(feed)], tmp_path)


def test_a_topic_directory_that_is_a_file_is_said(feed: Path) -> None:
    done = cdw("ingest", feed, "--to-dir", feed)
    assert done.returncode == 1
    assert b"the topic directory cannot be written" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("decode", "Missing argument"),
        ("decode f --nonsense", "No such option"),
        ("ingest", "name files, or an address"),
        ("ingest f --mllp 127.0.0.1:2575", "name files, or an address"),
        ("ingest f --insecure", "are for --mllp"),
        ("ingest f --metrics 127.0.0.1:1", "are for --mllp"),
        ("ingest --mllp 2575", "HOST:PORT is needed"),
        ("ingest --mllp 127.0.0.1:2575 --to-dir topics", "publishes to Kafka"),
        ("ingest --mllp 127.0.0.1:2575 --tls-cert file", "TLS needs --tls-cert, --tls-key and --tls-ca"),
    ],
)
def test_wrong_usage(arguments: str, said: str) -> None:
    done = cdw(*arguments.split())
    assert done.returncode == 2
    assert said in done.stderr.decode()
