"""What a simulation is asked for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from loaders.simulate.times import HOUR, to_ms

DEFAULT_START = datetime(2026, 1, 5, tzinfo=UTC)
READING_INTERVAL_SECONDS = 30


def device_id(number: int) -> str:
    """The identifier of a device; there is one a patient, numbered from 1."""
    return f"DEV-{number:04d}"


@dataclass(frozen=True)
class Config:
    """One simulation; equal configurations give equal bytes.

    ``defects`` are (defect name, device id) pairs in place of the default choice; None leaves the
    default, an empty tuple means none at all.
    """

    seed: int
    patients: int = 20
    hours: int = 48
    start: datetime = DEFAULT_START
    defects: tuple[tuple[str, str], ...] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a time that devices cannot tell."""
        if not 1971 <= self.start.year <= 2900:
            raise ValueError("the start must lie between the years 1971 and 2900")

    @property
    def starts_at(self) -> int:
        """First millisecond of the simulated time."""
        return to_ms(self.start)

    @property
    def ends_at(self) -> int:
        """First millisecond after the simulated time."""
        return self.starts_at + self.hours * HOUR

    def random(self, *stream: object) -> Random:
        """Random numbers of their own for each stream, so that no stream shifts when another changes."""
        # A string seed goes through SHA-512: the same in every process, unlike hash().
        return Random(":".join(map(str, (self.seed, *stream))))  # noqa: S311 - made-up data, no secrets
