"""The topics that are published to: made where they are missing, refused where they are too small."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from loaders.errors import CdwError
from loaders.hl7.publish import ORIGINALS
from loaders.hl7.stream import PARTS
from loaders.kafka.cluster import unusable
from loaders.kafka.config import client_config
from loaders.settings import Settings

_LIMIT = "max.message.bytes"
# Key, headers and what Kafka puts around a batch of one record.
_AROUND_A_RECORD = 65_536
_SECONDS = 30.0
_SILENT = frozenset(
    KafkaError(code).name()
    for code in (
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError.REQUEST_TIMED_OUT,
    )
)


def largest_record_bytes(settings: Settings) -> int:
    """The longest record that is published: the bytes of a message that was itself too long to decode."""
    return PARTS * settings.max_record_bytes + _AROUND_A_RECORD


def ensure_topics(settings: Settings, topics: Sequence[str]) -> None:
    """Make the topics that are not there yet, so that each takes the longest record it may get.

    Raises:
        CdwError: Kafka cannot be asked, does not answer, lets none be made, or has one that is too small.
    """
    limits = {
        topic: largest_record_bytes(settings)
        if topic == ORIGINALS
        else settings.max_record_bytes + _AROUND_A_RECORD
        for topic in topics
    }
    try:
        admin = AdminClient({**client_config(settings), "log_level": 0})
    except KafkaException as error:
        raise unusable(error, settings) from None
    try:
        present = admin.list_topics(timeout=_SECONDS).topics
    except KafkaException as error:
        raise _silent(settings, error.args[0].name()) from None
    _create(admin, settings, {topic: limit for topic, limit in limits.items() if topic not in present})
    _check(admin, settings, {topic: limit for topic, limit in limits.items() if topic in present})


def _create(admin: AdminClient, settings: Settings, limits: dict[str, int]) -> None:
    missing = [
        NewTopic(
            topic,
            num_partitions=settings.kafka_partitions or -1,
            replication_factor=settings.kafka_replication or -1,
            config={_LIMIT: str(limit)},
        )
        for topic, limit in limits.items()
    ]
    created: dict[str, Future[None]] = (
        admin.create_topics(missing, request_timeout=_SECONDS) if missing else {}
    )
    for topic, future in created.items():
        failure = _failure(future, settings)
        if failure not in {None, KafkaError(KafkaError.TOPIC_ALREADY_EXISTS).name()}:
            raise CdwError(
                f"Kafka does not let the topic {topic} be made ({failure})",
                where=settings.kafka_bootstrap_servers,
                do=f"have it made with {_LIMIT}={limits[topic]} at least, or lower CDW_MAX_RECORD_BYTES; "
                "CDW_KAFKA_PARTITIONS and CDW_KAFKA_REPLICATION are for topics that cdw makes",
            )


def _check(admin: AdminClient, settings: Settings, limits: dict[str, int]) -> None:
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in limits]
    described: dict[ConfigResource, Future[dict[str, Any]]] = (
        admin.describe_configs(resources, request_timeout=_SECONDS) if resources else {}
    )
    for resource, future in described.items():
        # Who may not see the limit learns of it when a record is refused.
        if _failure(future, settings) is None:
            limit, needed = int(future.result()[_LIMIT].value), limits[resource.name]
            if limit < needed:
                raise CdwError(
                    f"the topic {resource.name} takes {limit} bytes a record, and {needed} may come",
                    where=settings.kafka_bootstrap_servers,
                    do=f"kafka-configs.sh --alter --entity-type topics --entity-name {resource.name} "
                    f"--add-config {_LIMIT}={needed} --bootstrap-server {settings.kafka_bootstrap_servers}; "
                    "or lower CDW_MAX_RECORD_BYTES",
                )


def _failure(future: "Future[Any]", settings: Settings) -> str | None:
    """The name of what Kafka refused with, None where it did not."""
    try:
        future.result(_SECONDS + 1)  # the client itself says before that there was no answer
    except KafkaException as error:
        name = str(error.args[0].name())
        if name in _SILENT:
            raise _silent(settings, name) from None
        return name
    except TimeoutError:
        raise _silent(settings, "no answer") from None
    return None


def _silent(settings: Settings, name: str) -> CdwError:
    return CdwError(
        f"Kafka does not answer ({name})",
        where=settings.kafka_bootstrap_servers,
        do="see that it is up, and that CDW_KAFKA_BOOTSTRAP_SERVERS and CDW_KAFKA_CONFIG are right",
    )
