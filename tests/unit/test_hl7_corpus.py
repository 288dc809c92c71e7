"""Messages that nobody here wrote: almost all are accepted, and the page that says so is right."""

from collections import Counter
from functools import cache
from pathlib import Path

from loaders.hl7.decoder import Message
from tests.unit.hl7_files import CORPUS, REPOSITORY, files, needs_corpus, results

PAGE = REPOSITORY / "docs" / "decisions" / "hl7-acceptance.md"

pytestmark = needs_corpus

Counts = dict[str, Counter[str]]


@cache
def counted() -> Counts:
    """Count accepted messages, rejects and warnings by repository."""
    assert CORPUS
    return {
        folder.name: Counter(
            code
            for file in files(folder)
            for result in results(file)
            for code in (
                ["accepted", *result.meta["warnings"]] if isinstance(result, Message) else [result["code"]]
            )
        )
        for folder in CORPUS.iterdir()
        if folder.is_dir()
    }


def written() -> Counts:
    """Read the same from the page."""
    return {
        name: Counter({code: int(n) for code, n in row.items() if n}) for name, row in table("| repository |")
    }


def table(start: str) -> list[tuple[str, dict[str, str]]]:
    """Read the page's table that begins so: each row's first cell, and the others by column."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith(start))
    end = lines.index("", first)
    _, *columns = cells(lines[first])
    rows = [cells(line) for line in lines[first + 2 : end]]
    return [(name, dict(zip(columns, row, strict=True))) for name, *row in rows]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def total(counts: Counts) -> Counter[str]:
    return sum(counts.values(), Counter())


def test_the_counts_are_those_of_the_page() -> None:
    expected = written()
    assert expected.pop("all") == total(expected)
    assert counted() == expected


def test_at_least_99_percent_are_accepted() -> None:
    found = total(counted())
    rejected = sum(n for code, n in found.items() if code.startswith("E_"))
    assert found["accepted"] + rejected >= 1761
    assert found["accepted"] / (found["accepted"] + rejected) >= 0.99


def test_all_eleven_messages_of_aws_are_accepted() -> None:
    found = counted()["aws-samples+hcls-data-lake"]
    assert found["accepted"] == 11
    assert not any(code.startswith("E_") for code in found)


def test_each_reject_is_defended() -> None:
    assert CORPUS
    found = [
        (file, (result["code"], result["position"], result["byte_offset"], size(result["bytes"])))
        for folder in CORPUS.iterdir()
        if folder.is_dir()
        for file in files(folder)
        for result in results(file)
        if not isinstance(result, Message)
    ]
    defended = [
        (name.strip("`"), (row["code"], int(row["position"]), int(row["byte offset"]), int(row["bytes"])))
        for name, row in table("| file |")
        if row["why it is right"]
    ]
    assert len(found) == len(defended)
    for file, reject in found:
        assert reject in [other for name, other in defended if is_named(file, name)], file.name


def is_named(file: Path, shortened: str) -> bool:
    begin, _, end = shortened.partition("…")
    return file.name.startswith(begin) and file.name.endswith(end)


def size(base64_bytes: str) -> int:
    return len(base64_bytes) // 4 * 3 - base64_bytes.count("=")


def test_the_simulated_hospital_decodes_whole() -> None:
    assert CORPUS
    (file,) = (CORPUS / "Snowflake-Labs+Snowflake-HL7V2-Parsing").glob("*hl7_2-3_samples.txt")
    assert [isinstance(result, Message) for result in results(file)] == [True] * 1013
