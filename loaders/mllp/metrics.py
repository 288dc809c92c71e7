"""Prometheus metrics and health of ``cdw ingest --mllp``: counts and times, nothing of a message."""

import json
import threading
import time
from dataclasses import dataclass
from itertools import count

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from loaders.hl7.rejects import Code
from loaders.mllp.acknowledge import Outcome

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class Health:
    """What a probe is told: ``oldest_waiting_age_seconds`` is how long the oldest message waits for Kafka."""

    is_well: bool
    oldest_waiting_age_seconds: float
    waiting_messages: int

    def as_json(self) -> str:
        """The answer as JSON."""
        return json.dumps(
            {
                "status": "ok" if self.is_well else "ill",
                "oldest_waiting_age_seconds": round(self.oldest_waiting_age_seconds, 3),
                "waiting_messages": self.waiting_messages,
            }
        )


class MllpMetrics:
    """What a server tells of itself; it is told in the server's thread, and asked in others."""

    def __init__(self, delivery_seconds: float) -> None:
        """``delivery_seconds``: what Kafka may take to acknowledge."""
        self.registry = registry = CollectorRegistry()
        self._delivery_seconds = delivery_seconds
        self._numbers = count()
        # In the order in which they were published.
        self._waiting: dict[int, float] = {}
        self._has_failed = False
        self._lock = threading.Lock()
        ProcessCollector(registry=registry)
        self._connections = Gauge("cdw_mllp_connections", "Senders that are connected.", registry=registry)
        self._refused = Counter(
            "cdw_mllp_refused_connections", "Senders that found no place.", registry=registry
        )
        self._messages = Counter(
            "cdw_mllp_messages",
            "Messages by what became of them: stored (AA), rejected (AR), not stored (AE).",
            ["outcome"],
            registry=registry,
        )
        self._rejects = Counter(
            "cdw_mllp_rejects",
            "Messages among the rejects, by the code of the reason.",
            ["code"],
            registry=registry,
        )
        self._kafka = Histogram(
            "cdw_mllp_kafka_seconds",
            "Time from publishing a message to Kafka's acknowledgment or failure.",
            buckets=_SECONDS,
            registry=registry,
        )
        Gauge(
            "cdw_mllp_waiting_messages", "Messages that Kafka has not acknowledged yet.", registry=registry
        ).set_function(lambda: self.health().waiting_messages)
        Gauge(
            "cdw_mllp_oldest_waiting_age_seconds",
            "How long the oldest message waits for Kafka, 0 where none does.",
            registry=registry,
        ).set_function(lambda: self.health().oldest_waiting_age_seconds)

    def opened(self) -> None:
        """A sender has connected."""
        self._connections.inc()

    def closed(self) -> None:
        """A sender has gone."""
        self._connections.dec()

    def refused(self) -> None:
        """A sender found no place."""
        self._refused.inc()

    def published(self) -> int:
        """A message is on its way to Kafka; the number is for ``settled``."""
        number = next(self._numbers)
        with self._lock:
            self._waiting[number] = time.monotonic()
        return number

    def settled(self, number: int, *, is_stored: bool) -> None:
        """Kafka has acknowledged a message, or has failed to."""
        with self._lock:
            since = self._waiting.pop(number)
            self._has_failed = not is_stored
        self._kafka.observe(time.monotonic() - since)

    def answered(self, outcome: Outcome, code: Code | None) -> None:
        """It is known what became of a message; ``code`` is why it could not be decoded."""
        self._messages.labels(outcome).inc()
        if code and outcome == "rejected":
            self._rejects.labels(code).inc()

    def health(self) -> Health:
        """Not well where the last message could not be stored, or one waits for longer than it may."""
        with self._lock:
            oldest = next(iter(self._waiting.values()), None)
            waiting = len(self._waiting)
            has_failed = self._has_failed
        age = 0.0 if oldest is None else time.monotonic() - oldest
        return Health(not has_failed and age <= self._delivery_seconds, age, waiting)
