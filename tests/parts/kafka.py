"""Real Kafka brokers (KRaft, each a controller too), to be killed, restarted and looked into."""

import base64
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from signal import SIGTERM, Signals
from types import TracebackType
from typing import Self
from uuid import uuid4

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.parts import jars
from tests.parts.process import LOCALHOST, SECONDS, Process, free_port, wait_until

Properties = Mapping[str, str | int | float | bool]

_MEGABYTE = 1024 * 1024
_INTERNAL = ("__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata")
_UNSETTLED = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
)
_DEFAULTS: Properties = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT",
    "auto.create.topics.enable": False,
    "message.max.bytes": 16 * _MEGABYTE,
    "replica.fetch.max.bytes": 16 * _MEGABYTE,
    # One partition each: fewer files, and all of it comes back at once after a restart.
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.num.partitions": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    # No waiting where a hospital would rather wait.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 500,
    "group.consumer.min.session.timeout.ms": 500,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.session.timeout.ms": 6_000,
    "group.consumer.heartbeat.interval.ms": 500,
    # A broker that was killed is let in again when its session has ended.
    "broker.session.timeout.ms": 2_000,
    "broker.heartbeat.interval.ms": 250,
    "log.initial.task.delay.ms": 500,
    "log.retention.check.interval.ms": 500,
    "log.cleaner.backoff.ms": 500,
    "log.segment.delete.delay.ms": 0,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
    "log.cleaner.dedupe.buffer.size": 2 * _MEGABYTE,  # of the heap, 128 MB otherwise
}


class Broker:
    """One broker, known to its clients by ``bootstrap``; its data stay when it ends.

    It also listens for those that come through a proxy: put one at ``proxied``, with ``behind`` as its
    target, and clients given ``proxied`` as their bootstrap server stay behind that proxy.
    """

    def __init__(self, node: int, folder: Path, heap: str) -> None:
        self.node = node
        self.folder = folder
        self.bootstrap = f"{LOCALHOST}:{free_port()}"
        self.behind = (LOCALHOST, free_port())
        self.proxied = f"{LOCALHOST}:{free_port()}"
        self.controller = f"{LOCALHOST}:{free_port()}"
        self._java = [
            jars.JAVA,
            f"-Xmx{heap}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # tests are over before a better compiler pays
            f"-Dkafka.logs.dir={folder}",
            "-cp",
            jars.classpath(jars.BROKER),
        ]
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None, "the broker has not been started"
        return self._process

    def format(self, cluster_id: str, properties: Properties) -> None:
        """Make its folder and its settings."""
        self.folder.mkdir(parents=True)
        behind = ":".join(map(str, self.behind))
        settings = {
            **properties,
            "node.id": self.node,
            "log.dirs": self.folder / "data",
            "listeners": f"PLAINTEXT://{self.bootstrap},PROXIED://{behind},CONTROLLER://{self.controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap},PROXIED://{self.proxied}",
        }
        self._settings.write_text("".join(f"{name}={_text(value)}\n" for name, value in settings.items()))
        subprocess.run(
            [*self._java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._settings)],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    @property
    def _settings(self) -> Path:
        return self.folder / "server.properties"

    def start(self) -> None:
        """Start it; it may not answer yet."""
        command = [*self._java, "kafka.Kafka", str(self._settings)]
        self._process = Process(command, self.folder / "output")

    def is_alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def kill(self) -> None:
        """kill -9."""
        self.process.end()

    def stop(self) -> None:
        """End it as an operator would."""
        self.process.end(SIGTERM)

    def send(self, number: Signals) -> None:
        """Send it a signal: SIGSTOP holds it still, SIGCONT wakes it."""
        self.process.send(number)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Cluster:
    """Brokers that know each other, and what a test asks of them."""

    def __init__(
        self, folder: Path, *, brokers: int = 1, properties: Properties | None = None, heap: str = "512m"
    ) -> None:
        """Make the brokers in folders of their own; ``properties`` go before the defaults here."""
        self.brokers = [Broker(node, folder / str(node), heap) for node in range(1, brokers + 1)]
        copies = min(brokers, 3)
        settings = {
            **_DEFAULTS,
            "controller.quorum.voters": ",".join(f"{each.node}@{each.controller}" for each in self.brokers),
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": min(copies, 2),
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": 1,
            **(properties or {}),
        }
        # Not one that begins with "-": it would read as an option.
        cluster_id = base64.urlsafe_b64encode(b"\0" + uuid4().bytes[1:]).decode().rstrip("=")
        for broker in self.brokers:
            broker.format(cluster_id, settings)
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    @property
    def bootstrap(self) -> str:
        """For ``bootstrap.servers``."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> None:
        """Start what is not running, and wait until all brokers answer and serve their partitions."""
        started = [broker for broker in self.brokers if not broker.is_alive()]
        for broker in started:
            broker.start()
        for broker in started:
            # Asked of that broker: the others think for a while that it has never been away.
            client = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
            broker.process.wait_until(
                partial(self._is_whole, client), "all brokers are there and all partitions led"
            )
        if started:
            # One that saw a broker go may wait for good for the coordinator of a group.
            self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def stop(self) -> None:
        """kill -9 for all brokers; their data stay."""
        for broker in self.brokers:
            if broker.is_alive():
                broker.kill()

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill it."""
        self.stop()

    def _is_whole(self, client: AdminClient) -> bool:
        try:
            found = client.list_topics(timeout=1)
        except KafkaException:
            return False
        return len(found.brokers) == len(self.brokers) and all(
            partition.leader >= 0
            for topic in found.topics.values()
            for partition in topic.partitions.values()
        )

    def topics(self) -> list[str]:
        """The names of all topics but Kafka's own."""
        return [name for name in self.admin.list_topics(timeout=SECONDS).topics if name not in _INTERNAL]

    def topic_id(self, topic: str) -> str:
        """The id that Kafka gave a topic."""
        described = self.admin.describe_topics(TopicCollection([topic]))[topic].result(SECONDS)
        return str(described.topic_id)

    def create_topic(self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until all its partitions are led."""
        new = NewTopic(topic, partitions, config=dict(config or {}))

        def is_made() -> bool:
            try:
                self.admin.create_topics([new])[topic].result(SECONDS)
            except KafkaException as error:
                # On a machine that is busy, a broker may seem to be gone for a moment.
                if error.args[0].code() != KafkaError.INVALID_REPLICATION_FACTOR:
                    raise
                return False
            return True

        wait_until(is_made, f"topic {topic} is made")
        wait_until(lambda: self._partitions(topic) == partitions, f"topic {topic} is there")

    def add_partitions(self, topic: str, partitions: int) -> None:
        """Raise the number of a topic's partitions to ``partitions``."""
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(SECONDS)
        wait_until(
            lambda: self._partitions(topic) == partitions, f"topic {topic} has {partitions} partitions"
        )

    def configure_topic(self, topic: str, config: Mapping[str, str]) -> None:
        """Set a topic's properties; those not named stay."""
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result(SECONDS)

    def delete_topics(self, *topics: str) -> None:
        """Delete topics and wait until they are gone."""
        if topics:
            for future in self.admin.delete_topics(list(topics)).values():
                future.result(SECONDS)
            wait_until(lambda: not set(topics) & set(self.topics()), "the deleted topics are gone")

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Let a topic begin later: partition -> the first offset that stays."""
        asked = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        for future in self.admin.delete_records(asked).values():
            future.result(SECONDS)

    def begin_offsets(self, topic: str) -> dict[int, int]:
        """Partition -> offset of the first record."""
        return self._offsets(topic, OffsetSpec.earliest())

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Partition -> offset after the last record, control records counted."""
        return self._offsets(topic, OffsetSpec.latest())

    def leader(self, topic: str, partition: int = 0) -> Broker:
        """The broker that leads a partition."""
        found = self.admin.list_topics(topic, timeout=SECONDS).topics[topic].partitions[partition]
        return self.brokers[found.leader - 1]

    def clean(self) -> None:
        """Start what is down; delete all topics but Kafka's own, and all groups that are empty."""
        self.start()
        self.delete_topics(*self.topics())
        groups = [group.group_id for group in self.admin.list_consumer_groups().result(SECONDS).valid]
        for future in self.admin.delete_consumer_groups(groups).values() if groups else ():
            try:
                future.result(SECONDS)
            except KafkaException as error:
                # The group of a loader that was killed, until its session has ended; no two share a name.
                if error.args[0].code() != KafkaError.NON_EMPTY_GROUP:
                    raise

    def _offsets(self, topic: str, spec: OffsetSpec) -> dict[int, int]:
        found: dict[int, int] = {}

        def is_found() -> bool:
            asked = {TopicPartition(topic, each): spec for each in range(self._partitions(topic))}
            try:
                for each, future in self.admin.list_offsets(asked, request_timeout=SECONDS).items():
                    found[each.partition] = future.result(SECONDS).offset
            except KafkaException as error:
                # A partition that is new, or has just moved: its leader does not know it yet.
                if error.args[0].code() not in _UNSETTLED:
                    raise
                return False
            return bool(found)

        wait_until(is_found, f"offsets of topic {topic}")
        return found

    def _partitions(self, topic: str) -> int:
        """How many partitions a topic has, those without a leader not counted; 0 where it is not there."""
        found = self.admin.list_topics(topic, timeout=SECONDS).topics[topic]
        return 0 if found.error else sum(each.leader >= 0 for each in found.partitions.values())
