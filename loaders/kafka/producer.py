"""Publishing to Kafka: idempotent, acknowledged by all replicas in sync, in order for each key."""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from loaders.errors import CdwError
from loaders.kafka.cluster import unusable
from loaders.kafka.config import Config, client_config
from loaders.kafka.outgoing import Outgoing
from loaders.kafka.topics import largest_record_bytes
from loaders.settings import Settings

Done = Callable[[str | None], None]
"""Is told, in another thread, None where Kafka has acknowledged all records, else its name of the error."""

FATAL = KafkaError(KafkaError._FATAL).name()
"""The producer has ended: no record will be acknowledged any more."""

_POLL_SECONDS = 0.1
_WINDOW_BYTES = 32_000_000

_log = structlog.get_logger()


class Publisher:
    """An idempotent producer, to be used in a ``with``; leaving it waits for what is on its way."""

    def __init__(self, settings: Settings) -> None:
        """Start the producer; nothing is asked of Kafka yet.

        Raises:
            CdwError: a property of ``CDW_KAFKA_CONFIG`` cannot be used.
        """
        usual: Config = {
            "compression.type": "lz4",
            # A sender waits for its ACK: fuller batches are not worth much of its time.
            "linger.ms": 2,
            # The same key goes to the same partition as with Java's producer.
            "partitioner": "murmur2_random",
        }
        ours: Config = {
            "enable.idempotence": True,
            "acks": "all",
            "allow.auto.create.topics": False,  # ensure_topics makes them, large enough
            "delivery.timeout.ms": round(settings.kafka_delivery_seconds * 1000),
            "message.max.bytes": largest_record_bytes(settings),
            # Whoever publishes bounds what is on its way.
            "queue.buffering.max.messages": 0,
            "queue.buffering.max.kbytes": 2_097_151,
            "log_level": 0,  # errors come through error_cb
        }
        self._flush_seconds = settings.kafka_delivery_seconds + 10
        try:
            self._producer = Producer({**usual, **client_config(settings), **ours, "error_cb": _log_error})
        except KafkaException as error:
            raise unusable(error, settings) from None
        self._is_closed = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="kafka-delivery", daemon=True)
        self._poller.start()

    def publish(self, records: Sequence[Outgoing], done: Done) -> None:
        """Publish records that belong together; ``done`` is called once, when all are settled."""
        delivery = _Delivery(len(records), done)
        for topic, key, value in records:
            try:
                self._producer.produce(topic, value, key, on_delivery=delivery)
            except KafkaException as error:
                delivery(error.args[0], None)
            except BufferError:
                delivery(KafkaError(KafkaError._QUEUE_FULL), None)

    def _poll(self) -> None:
        while not self._is_closed.is_set():
            self._producer.poll(_POLL_SECONDS)

    def __enter__(self) -> Self:
        """Nothing to do: it runs."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all that is on its way is acknowledged, or has failed."""
        self._producer.flush(self._flush_seconds)
        self._is_closed.set()
        self._poller.join()


class _Delivery:
    """Records that belong together, on their way. The calls come one after the other.

    (One that fails before it is on its way is told by the thread that publishes, the others by the poller:
    the lock is for the case where both happen to records of one delivery.)
    """

    def __init__(self, count: int, done: Done) -> None:
        self._left = count
        self._done = done
        self._failure: str | None = None
        self._lock = threading.Lock()

    def __call__(self, error: KafkaError | None, _message: Message | None) -> None:
        with self._lock:
            if error is not None and self._failure is None:
                self._failure = FATAL if error.fatal() else error.name()
            self._left -= 1
            is_last = not self._left
        if is_last:
            self._done(self._failure)


class Outbox:
    """Publishes what one thread gives, which waits where too much is on its way; to be used in a ``with``.

    Leaving it waits for everything. ``acknowledged`` counts the calls of ``put`` of which all is in Kafka.
    """

    def __init__(self, settings: Settings) -> None:
        """Start a publisher."""
        self.acknowledged = 0
        self._publisher = Publisher(settings)
        self._servers = settings.kafka_bootstrap_servers
        self._waiting_bytes = 0
        self._failure: str | None = None
        self._change = threading.Condition()

    def put(self, records: Sequence[Outgoing]) -> None:
        """Publish records that belong together.

        Raises:
            CdwError: Kafka has not acknowledged these or earlier ones in time.
        """
        size = sum(len(record.value or b"") for record in records)
        with self._change:
            self._change.wait_for(lambda: self._failure or self._waiting_bytes < _WINDOW_BYTES)
            if self._failure:
                raise self._error(self._failure)
            self._waiting_bytes += size

        def done(failure: str | None) -> None:
            with self._change:
                self._waiting_bytes -= size
                self.acknowledged += failure is None
                self._failure = self._failure or failure
                self._change.notify()

        self._publisher.publish(records, done)

    def _error(self, failure: str) -> CdwError:
        return CdwError(
            f"Kafka did not acknowledge what was published ({failure}); {self.acknowledged} that it did stay",
            where=self._servers,
            do="see that Kafka is up, reached (CDW_KAFKA_BOOTSTRAP_SERVERS, CDW_KAFKA_CONFIG) and lets cdw "
            "write, then run the command again: repeated messages are known by their sha256",
        )

    def __enter__(self) -> Self:
        """Nothing to do: the publisher runs."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for everything.

        Raises:
            CdwError: Kafka has not acknowledged all in time.
        """
        self._publisher.__exit__(kind, error, trace)
        if error is None and self._failure:
            raise self._error(self._failure)


def _log_error(error: KafkaError) -> None:
    _log.warning("kafka_error", code=error.name(), fatal=error.fatal())
