"""What is in Kafka, read by a client that has nothing of ours."""

from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from tests.parts.kafka import Cluster
from tests.parts.process import wait_until


class Read(NamedTuple):
    """A record as a topic has it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


def read(kafka: Cluster, topic: str) -> list[Read]:
    """All records of a topic, by partition and offset."""
    ends = kafka.end_offsets(topic)
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    records: list[Read] = []
    reached: set[int] = set()

    def is_done() -> bool:
        for message in consumer.consume(10_000, 0.2):
            if message.error() is None:
                place = message.partition(), message.offset()
                records.append(Read(*place, message.key(), message.value()))  # type: ignore[arg-type]
            else:
                reached.add(message.partition() or 0)
        return len(reached) == len(ends)

    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    wait_until(is_done, f"the end of {topic}")
    consumer.close()
    return sorted(records)


def values(kafka: Cluster, topic: str) -> list[bytes]:
    """The values of a topic, by partition and offset."""
    return [record.value or b"" for record in read(kafka, topic)]
