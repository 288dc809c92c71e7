"""A member of the consumer group whose Kafka is not there."""

import time
from collections import Counter

from structlog.testing import capture_logs

from loaders.kafka.pending import Pending
from loaders.kafka.source import KafkaSource
from loaders.settings import load_settings
from tests.parts.process import LOCALHOST, free_port


def test_a_kafka_that_is_away_does_not_fill_the_log() -> None:
    brokers = ",".join(f"{LOCALHOST}:{free_port()}" for _ in range(2))
    settings = load_settings().model_copy(update={"kafka_bootstrap_servers": brokers})
    source = KafkaSource(settings, ["t"], "g", Pending())
    with capture_logs() as lines:
        until = time.monotonic() + 3  # librdkafka tries again several times a second
        while time.monotonic() < until:
            source.poll(0.1)
        source.close()
    told = Counter(line.get("facility") or line["code"] for line in lines)
    assert told["FAIL"] == 1
    assert set(told.values()) == {1}
