"""The simulator as a whole: the same bytes for the same words, the files it writes, what it refuses."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loaders.cli import app
from loaders.errors import CdwError
from loaders.simulate.config import Config
from loaders.simulate.defects import KINDS
from loaders.simulate.scenario import parse_defects, plan
from loaders.simulate.stream import telemetry
from loaders.simulate.write import simulate

TOPICS = {
    "device.telemetry.jsonl",
    "healthcare.public.devices.jsonl",
    "healthcare.public.patients.jsonl",
    "healthcare.public.prescriptions.jsonl",
}


def cdw(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from loaders.cli import main; main()", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def write(config: Config, out: Path) -> dict[str, int]:
    return simulate(config, out, lambda name, done: None)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*.*")}


def test_the_same_words_give_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    words = ("simulate", "--seed", "5", "--patients", "13", "--hours", "12", "--out")
    for name, hash_seed in (("a", "1"), ("b", "2")):
        done = cdw(
            *words, str(tmp_path / name), PYTHONHASHSEED=hash_seed, TZ="Asia/Tokyo" if name == "a" else "UTC"
        )
        assert done.returncode == 0, done.stderr
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first == second
    assert set(first) > TOPICS


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    write(Config(1, 5, 6), tmp_path / "a")
    write(Config(2, 5, 6), tmp_path / "b")
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert all(first[name] != second[name] for name in TOPICS)


def test_one_device_is_the_same_however_many_others_there_are() -> None:
    few = plan(Config(3, 4, 12, defects=())).devices[2]
    many = plan(Config(3, 30, 12, defects=())).devices[2]
    assert (few.device_id, few.settings, few.serial_number) == (
        many.device_id,
        many.settings,
        many.serial_number,
    )


def test_each_reading_is_one_line(tmp_path: Path) -> None:
    counts = write(Config(1, 4, 6, defects=()), tmp_path)
    lines = (tmp_path / "device.telemetry.jsonl").read_bytes().splitlines()
    assert counts["device.telemetry"] == len(lines) == 4 * 6 * 120 * 3
    per_device = Counter((record["device_id"], record["metric_name"]) for record in map(json.loads, lines))
    assert set(per_device.values()) == {6 * 120}
    assert len(per_device) == 4 * 3


def test_the_devices_lines_come_in_order_of_arrival() -> None:
    arrivals = [arrived_at for arrived_at, _ in telemetry(plan(Config(1, 10, 6)))]
    assert arrivals == sorted(arrivals)


def test_lines_are_told_and_counted(tmp_path: Path) -> None:
    done = cdw("simulate", "--out", str(tmp_path / "out"), "--patients", "3", "--hours", "5")
    assert done.returncode == 0
    told = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    for topic in TOPICS:
        lines = (tmp_path / "out" / topic).read_bytes().count(b"\n")
        assert told[topic.removesuffix(".jsonl")] == str(lines)
    assert "device.telemetry: 100 %" in done.stderr
    assert "\x1b" not in done.stderr


def test_what_is_written_is_its_owners_alone(tmp_path: Path) -> None:
    assert cdw("simulate", "--out", str(tmp_path / "out"), "--patients", "1", "--hours", "1").returncode == 0
    modes = {path.stat().st_mode & 0o077 for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]}
    assert modes == {0}


def test_by_default_twelve_of_twenty_devices_have_one_defect_each() -> None:
    for seed in range(10):
        injections = plan(Config(seed)).injections
        assert [injection.name for injection in injections] == list(KINDS)
        assert len({injection.device.device_id for injection in injections}) == len(KINDS)


def test_defects_last_minutes_to_hours_within_the_window() -> None:
    for seed in range(10):
        for hours in (2, 6, 48, 200):
            config = Config(seed, 20, hours)
            injections = plan(config).injections
            assert injections
            for injection in injections:
                assert config.starts_at < injection.started_at < injection.ended_at < config.ends_at
                minutes = (injection.ended_at - injection.started_at) / 60_000
                assert KINDS[injection.name].shortest <= minutes <= KINDS[injection.name].longest


def test_the_list_of_defects_says_what_was_done(tmp_path: Path) -> None:
    config = Config(8, 6, 24, defects=(("clogged_filter", "DEV-0002"), ("wrong_units", "DEV-0005")))
    write(config, tmp_path)
    with (tmp_path / "defects.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["defect"], row["device_id"], row["metric"]) for row in rows] == [
        ("clogged_filter", "DEV-0002", "Pressure"),
        ("wrong_units", "DEV-0005", "FlowRate"),
        ("wrong_units", "DEV-0005", "Pressure"),
    ]
    assert all(row["started_at"].endswith("Z") and row["started_at"] < row["ended_at"] for row in rows)
    # The truth of the list is that of the lines: hPa and kPa stand within its times and nowhere else.
    of_device = [
        json.loads(line)
        for line in (tmp_path / "device.telemetry.jsonl").read_bytes().splitlines()
        if b'"DEV-0005"' in line and b'"Pressure"' in line
    ]
    for record in of_device:
        within = rows[2]["started_at"] <= record["ts"] < rows[2]["ended_at"]
        assert (record.get("unit") in ("hPa", "kPa")) == within


def test_several_defects_of_one_device_do_not_overlap() -> None:
    for seed in range(10):
        names = ("clogged_filter", "pressure_oscillating", "sensor_stuck", "garbage")
        injections = plan(Config(seed, 2, 48, defects=tuple((name, "DEV-0001") for name in names))).injections
        times = [(injection.started_at, injection.ended_at) for injection in injections]
        assert all(earlier[1] < later[0] for earlier, later in pairwise(times))


def test_a_used_directory_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "hl7.messages.jsonl").write_text("{}\n")
    with pytest.raises(CdwError, match="already holds 1 file"):
        write(Config(1, 1, 1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["hl7.messages.jsonl"]


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cdw("simulate", "--out", str(tmp_path / "file" / "out"), "--patients", "1", "--hours", "1")
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert "to do:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--defect", "bad_luck:DEV-0001"], "there are pressure_oscillating, clogged_filter"),
        (["--defect", "garbage:DEV-0021"], "there are DEV-0001 to DEV-0020"),
        (["--defect", "garbage"], "there are DEV-0001 to DEV-0020"),
        (["--defect", "late:DEV-0001", "--defect", "late:DEV-0001"], "twice"),
        (["--start", "soon"], "--start"),
        (["--start", "0001-01-01"], "1971"),
        (["--patients", "0"], "--patients"),
        (["--hours", "0"], "--hours"),
    ],
)
def test_wrong_use_is_told_and_writes_nothing(tmp_path: Path, words: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["simulate", "--out", str(tmp_path / "out"), *words])
    assert done.exit_code == 2
    assert told in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_defect_that_does_not_fit_is_told(tmp_path: Path) -> None:
    config = Config(1, 2, 7, defects=(("clogged_filter", "DEV-0001"),))
    with pytest.raises(CdwError, match="simulate 8 hours or more"):
        write(config, tmp_path)
    write(Config(1, 2, 8, defects=config.defects), tmp_path)


def test_the_help_has_an_example() -> None:
    done = CliRunner().invoke(app, ["simulate", "--help"])
    assert done.exit_code == 0
    assert "Examples: cdw simulate" in " ".join(done.stdout.split())


def test_either_a_directory_or_kafka() -> None:
    for arguments in ([], ["--out", "topics", "--kafka"]):
        assert CliRunner().invoke(app, ["simulate", *arguments]).exit_code == 2


def test_defects_are_read_as_pairs() -> None:
    config = Config(1, 3, 48)
    assert parse_defects(config, ["late:DEV-0003", "garbage:DEV-0001"]) == (
        ("late", "DEV-0003"),
        ("garbage", "DEV-0001"),
    )
