"""What a Kafka cluster says of itself: its id, its topics' ids, where their partitions begin and end."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from loaders.errors import AwayError, CdwError
from loaders.kafka.config import client_config
from loaders.settings import Settings

_REQUEST_SECONDS = 10.0

FORBIDDEN = frozenset(
    {
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
    }
)
"""What no waiting mends."""


class Key(NamedTuple):
    """A partition as Kafka names it."""

    topic: str
    number: int


class Ends(NamedTuple):
    """The first offset that is there, and the one after the last that may be read."""

    low: int
    high: int


class TopicState(NamedTuple):
    """A topic as it is now."""

    topic_id: str
    partitions: list[int]


def where(settings: Settings) -> str:
    """The brokers in words for messages."""
    return f"Kafka at {settings.kafka_bootstrap_servers}"


def forbidden(error: KafkaError, at: str) -> CdwError:
    """What to say of an error of ``FORBIDDEN``."""
    return CdwError(
        f"Kafka refuses this user ({error.name()})",
        where=at,
        do="give it the rights to describe and read the topics and to read groups cdw-*, or see to the "
        "credentials in the file of CDW_KAFKA_CONFIG",
    )


def in_words(offsets: Mapping[Key, int]) -> dict[str, dict[int, int]]:
    """Offsets by topic and partition, for logs."""
    words: dict[str, dict[int, int]] = {}
    for key in sorted(offsets):
        words.setdefault(key.topic, {})[key.number] = offsets[key]
    return words


class KafkaAwayError(AwayError):
    """Kafka cannot be reached for now."""

    part = "kafka"


class KafkaCluster:
    """A cluster to be asked; every method raises AwayError where there is no answer."""

    def __init__(self, settings: Settings, seconds: float = _REQUEST_SECONDS) -> None:
        """Connect with the first question; ``seconds`` is how long an answer may take."""
        self.where = where(settings)
        self._seconds = seconds
        try:
            self._admin = AdminClient(
                cast("dict[str, Any]", client_config(settings)) | {"error_cb": _ignore, "log_level": 0}
            )
        except KafkaException as error:
            raise unusable(error, settings) from None

    def cluster_id(self) -> str:
        """The id of the cluster."""
        return str(self._ask(self._admin.describe_cluster(request_timeout=self._seconds)).cluster_id)

    def topics(self, names: Iterable[str]) -> dict[str, TopicState]:
        """The topics with these names; one that is not there is left out."""
        futures = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=self._seconds)
        found: dict[str, TopicState] = {}
        for name, future in futures.items():
            topic = self._ask(future, KafkaError.UNKNOWN_TOPIC_OR_PART)
            if topic is not None:
                found[name] = TopicState(str(topic.topic_id), sorted(each.id for each in topic.partitions))
        return found

    def ends(self, keys: Iterable[Key]) -> dict[Key, Ends]:
        """What there is of partitions."""
        keys = list(keys)
        lows = self._offsets(keys, OffsetSpec.earliest(), IsolationLevel.READ_COMMITTED)
        highs = self._offsets(keys, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
        return {key: Ends(self._ask(lows[key]).offset, self._ask(highs[key]).offset) for key in keys}

    def written(self, keys: Iterable[Key]) -> dict[Key, int]:
        """The offset after the last of partitions, be it behind an open transaction."""
        found = self._offsets(keys, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)
        return {key: self._ask(future).offset for key, future in found.items()}

    def _offsets(self, keys: Iterable[Key], spec: OffsetSpec, level: IsolationLevel) -> dict[Key, Any]:
        """Futures of offsets."""
        asked = {TopicPartition(*key): spec for key in keys}
        if not asked:
            return {}
        futures = self._admin.list_offsets(asked, isolation_level=level, request_timeout=self._seconds)
        return {Key(each.topic, each.partition): future for each, future in futures.items()}

    def retention(self, topics: Iterable[str]) -> dict[str, float]:
        """How long topics keep a record, in seconds; one is left out that keeps all, or does not tell us."""
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
        if not resources:
            return {}
        futures = self._admin.describe_configs(resources, request_timeout=self._seconds)
        found: dict[str, float] = {}
        for resource, future in futures.items():
            entries = self._ask(future, KafkaError.TOPIC_AUTHORIZATION_FAILED)
            if entries and "delete" in entries["cleanup.policy"].value:
                milliseconds = int(entries["retention.ms"].value)
                if milliseconds >= 0:
                    found[resource.name] = milliseconds / 1_000
        return found

    def members(self, group: str) -> int:
        """How many loaders are in a consumer group now."""
        (future,) = self._admin.describe_consumer_groups([group], request_timeout=self._seconds).values()
        found = self._ask(future, KafkaError.GROUP_ID_NOT_FOUND)
        return len(found.members) if found else 0

    def _ask(self, future: Any, missing: int | None = None) -> Any:
        try:
            return future.result(self._seconds + 1)
        except KafkaException as error:
            kafka_error: KafkaError = error.args[0]
            if kafka_error.code() == missing:
                return None
            if kafka_error.code() in FORBIDDEN:
                raise forbidden(kafka_error, self.where) from None
            name = kafka_error.name()
        except TimeoutError:
            name = "no answer"
        raise KafkaAwayError(
            f"Kafka cannot be reached ({name})",
            where=self.where,
            do="see that it runs and can be reached (CDW_KAFKA_BOOTSTRAP_SERVERS, CDW_KAFKA_CONFIG)",
        )


def unusable(error: KafkaException, settings: Settings) -> CdwError:
    """What to say of a property that librdkafka does not take."""
    return CdwError(
        f"a Kafka property cannot be used ({error.args[0].name()})",
        where=f"{settings.kafka_config}" if settings.kafka_config else "CDW_KAFKA_* variables",
        do="compare it with librdkafka's list of configuration properties",
    )


def _ignore(_: KafkaError) -> None:
    """The answers tell; librdkafka would else write the error to stderr."""
