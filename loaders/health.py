"""Whether a load keeps up: not that a process is there, but that no record has been waiting for too long."""

import json
import time
from dataclasses import dataclass

from loaders.errors import AwayError
from loaders.kafka.load import Observer
from loaders.kafka.watch import View

# librdkafka asks and reports every second: Kafka that was not heard of for that long is away.
_SILENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Health:
    """What a probe is told.

    ``oldest_age_seconds`` is how long the oldest record that is known of has been waiting,
    ``unknown_seconds`` how long there may have been others: since then, nothing has been heard of the group
    or of a partition, or the loading thread has not moved.
    """

    is_well: bool
    oldest_age_seconds: float
    unknown_seconds: float
    max_age_seconds: float
    waiting_for: str | None
    partitions: int

    def as_json(self) -> str:
        """The answer as JSON."""
        return json.dumps(
            {
                "status": "ok" if self.is_well else "late",
                "oldest_unloaded_age_seconds": round(self.oldest_age_seconds, 3),
                "unknown_seconds": round(self.unknown_seconds, 3),
                "max_age_seconds": self.max_age_seconds,
                "waiting_for": self.waiting_for,
                "partitions": self.partitions,
            }
        )


class Pulse(Observer):
    """An observer of a load that can be asked for its health in any thread.

    The loading thread leaves what it knows, with the times at which it knew it; who asks compares them with
    the clock. A thread that hangs therefore looks as ill as a Kafka that is away.
    """

    def __init__(self, max_age: float) -> None:
        """``max_age``: how long a record may wait, and how long that may be unknown, in seconds."""
        now = time.time()
        self.view = View(now, now, {})
        self._max_age = max_age
        self._waiting_for: str | None = None

    def waiting(self, error: AwayError) -> None:
        """Nothing goes on until this is mended."""
        self._waiting_for = error.part

    def resumed(self) -> None:
        """It is mended."""
        self._waiting_for = None

    def seen(self, view: View) -> None:
        """How far the load is."""
        self.view = view

    def waiting_for(self) -> str | None:
        """What the load waits for: ``warehouse``, ``kafka``, ``registry`` (of schemas) or nothing."""
        # By what it saw itself: a thread that is busy sees nothing, whether Kafka is there or not.
        if self._waiting_for is None and self.view.at - self.view.known_at > _SILENCE_SECONDS:
            return "kafka"
        return self._waiting_for

    def health(self) -> Health:
        """How well the load is now."""
        view, now = self.view, time.time()
        age = 0.0 if view.oldest is None else max(now - view.oldest, 0.0)
        unknown = max(now - view.known_at, 0.0)
        return Health(
            is_well=max(age, unknown) <= self._max_age,
            oldest_age_seconds=age,
            unknown_seconds=unknown,
            max_age_seconds=self._max_age,
            waiting_for=self.waiting_for(),
            partitions=len(view.partitions),
        )
