"""Which rejects are sent through again, and in what portions."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from loaders.settings import Settings
from loaders.warehouse.found import Condition, Coordinates
from loaders.warehouse.statements import Cell


class Choice(NamedTuple):
    """Which rejects: all conditions that are given must hold; ``since`` (with a zone) is of their arrival."""

    reasons: Sequence[str] = ()
    since: datetime | None = None
    sha256: str | None = None

    def condition(self, reason: str, sha256: str) -> Condition:
        """The choice in SQL; ``reason`` and ``sha256`` are where a table has them."""
        conditions, parameters = ["true"], list[Cell]()
        if self.reasons:
            conditions.append(f"{reason} in ({', '.join(['%s'] * len(self.reasons))})")
            parameters += self.reasons
        if self.since:
            conditions.append("_loaded_at >= %s")
            parameters.append(self.since.astimezone(UTC).replace(tzinfo=None))
        if self.sha256:
            conditions.append(f"{sha256} = %s")
            parameters.append(self.sha256.lower())
        return Condition(" and ".join(conditions), tuple(parameters))


class Sized(NamedTuple):
    """A reject and how many bytes it takes."""

    record: Coordinates
    size: int


def portions(rejects: Sequence[Sized], settings: Settings) -> Iterator[list[Coordinates]]:
    """Rejects in their order, as many at a time as a batch may have."""
    portion: list[Coordinates] = []
    total = 0
    for record, size in rejects:
        if portion and (len(portion) >= settings.batch_records or total + size > settings.batch_bytes):
            yield portion
            portion, total = [], 0
        portion.append(record)
        total += size
    if portion:
        yield portion
