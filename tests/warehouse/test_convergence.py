"""The marts do not tell in how many loads and builds their records came."""

from pathlib import Path

from tests.conftest import DuckDB
from tests.warehouse.hospital import Runner, make_topics
from tests.warehouse.parity import differences, read_marts


def test_loads_and_builds_in_parts_equal_one(tmp_path: Path, profiles_dir: Path) -> None:
    parts, whole = (DuckDB(tmp_path / f"{name}.duckdb") for name in ("parts", "whole"))
    in_parts = Runner(tmp_path, profiles_dir, parts.env)
    at_once = Runner(tmp_path, profiles_dir, whole.env)
    topics = make_topics(in_parts, tmp_path / "topics")
    files = {file: file.read_bytes().splitlines(keepends=True) for file in sorted(topics.glob("*.jsonl"))}

    # A third of each file, then two thirds: later messages correct, merge and fill what was built before.
    for share in (1, 2, 3):
        for file, lines in files.items():
            file.write_bytes(b"".join(lines[: len(lines) * share // 3]))
        in_parts.load(topics)
        in_parts.dbt("build", "--exclude-resource-type", "unit_test")
    at_once.load(topics)
    at_once.dbt("build", "--exclude-resource-type", "unit_test")

    assert differences(read_marts(parts), read_marts(whole)) == {}
