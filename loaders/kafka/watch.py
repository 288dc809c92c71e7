"""How far a load is, and since when that is known: what metrics and the health check are made of.

All times are seconds since the epoch. None of it decides what is loaded.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from loaders.kafka.cluster import Key
from loaders.kafka.statistics import KnownEnd, Statistics

# Ends by time of a partition that is behind; older ones are forgotten, which only makes records look older.
_SAMPLES = 120


class Held(NamedTuple):
    """A partition as the loader holds it: loaded up to ``position``, fetched up to ``reached``.

    ``first_at`` is Kafka's time of the first record that is fetched and not loaded, if there is one.
    """

    position: int
    reached: int
    first_at: float | None


class Standing(NamedTuple):
    """A partition: loaded up to ``position``, of what Kafka has up to ``end`` (None: not known yet).

    ``since`` is from when on its oldest unloaded record has been waiting, None where none is known of;
    ``known_at`` is when its broker was last heard of. ``withheld`` counts offsets after ``end``, behind an
    open transaction: they wait as well, though nobody can load them.
    """

    position: int
    end: int | None
    since: float | None
    known_at: float
    withheld: int = 0

    @property
    def lag(self) -> int:
        """Offsets that are not loaded yet, as far as is known."""
        return max((self.end or 0) - self.position, 0)


class View(NamedTuple):
    """All partitions of this loader, as they were at a time.

    ``known_at`` is from when on nothing was known of one of them, or of the group itself.
    """

    at: float
    known_at: float
    partitions: Mapping[Key, Standing]

    @property
    def oldest(self) -> float | None:
        """From when on the oldest unloaded record has been waiting."""
        return min((each.since for each in self.partitions.values() if each.since is not None), default=None)


@dataclass(slots=True)
class _Track:
    taken_up_at: float
    heard_at: float
    end: int | None = None
    written: int = 0
    """The end that it would be without open transactions."""
    caught_up_at: float | None = None
    """A time before which all that was written is loaded."""
    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    def hear(self, known: KnownEnd) -> None:
        self.heard_at = known.heard_at
        self.end = known.offset
        self.written = known.offset + known.withheld
        if known.is_now:
            if self.samples and self.samples[-1][1] == self.written:
                self.samples.pop()
            self.samples.append((known.heard_at, self.written))

    def standing(self, held: Held) -> Standing:
        while self.samples and self.samples[0][1] <= held.position:
            self.caught_up_at = self.samples.popleft()[0]
        end = None if self.end is None else max(self.end, held.reached)
        since = None
        if held.position < max(self.written, held.reached):
            # Kafka's time is what the producer says it is: a record is not older here than it is in Kafka.
            bounds = [at for at in (held.first_at, self.caught_up_at) if at is not None]
            since = max(bounds, default=self.taken_up_at)
        withheld = max(self.written - (end or 0), 0)
        return Standing(held.position, end, since, self.heard_at, withheld)


class Watch:
    """Follows the partitions of one loader."""

    def __init__(self, now: float) -> None:
        """Nothing is known yet."""
        self._member_at = now
        self._unplaced_at: float | None = None
        self._tracks: dict[Key, _Track] = {}

    def hear(self, statistics: Statistics) -> None:
        """Take in what librdkafka reports; the same once more changes nothing."""
        if statistics.is_member:
            self._member_at = max(self._member_at, statistics.at)
        for key, known in statistics.ends.items():
            if (track := self._tracks.get(key)) and known.heard_at > track.heard_at:
                track.hear(known)

    def view(self, held: Mapping[Key, Held], unplaced: Iterable[Key], now: float) -> View:
        """The partitions as they are now; ``unplaced`` are ours and wait for a position."""
        self._tracks = {key: self._tracks.get(key) or _Track(now, now) for key in held}
        self._unplaced_at = (self._unplaced_at or now) if any(True for _ in unplaced) else None
        partitions = {key: self._tracks[key].standing(each) for key, each in held.items()}
        times = [self._member_at, *(each.known_at for each in partitions.values())]
        if self._unplaced_at is not None:
            times.append(self._unplaced_at)
        return View(now, min(times), partitions)
