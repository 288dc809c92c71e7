"""What faults happen to: a broker, a feed into it, loaders, a warehouse, and the ledger of it all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Warehouse
from tests.faults.ledger import ORIGINALS, TELEMETRY, Fault, Feed, Ledger
from tests.faults.loader import Loader, Loaders
from tests.parts.kafka import Cluster

PARTITIONS = 3

# Small and quick, so that a second of a test is an hour of a hospital.
SETTINGS: Mapping[str, str] = {"CDW_BATCH_RECORDS": "50", "CDW_BATCH_SECONDS": "0.1"}
_CLASSIC = "session.timeout.ms=1000\nheartbeat.interval.ms=200\n"
_CLIENT = "topic.metadata.refresh.interval.ms=300\nreconnect.backoff.max.ms=500\n"


def loader_env(kafka: str, folder: Path, protocol: str = "classic") -> dict[str, str]:
    """The settings of loaders at a broker; ``folder`` takes a file of properties."""
    file = folder / f"{protocol}.properties"
    file.write_text(_CLIENT + _CLASSIC * (protocol == "classic"))
    return {
        **SETTINGS,
        "CDW_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "CDW_KAFKA_CONFIG": str(file),
        "CDW_KAFKA_GROUP_PROTOCOL": protocol,
    }


@dataclass(frozen=True)
class Scene:
    """A warehouse, a broker, a feed into it, loaders between them."""

    warehouse: Warehouse
    kafka: Cluster
    ledger: Ledger
    feed: Feed
    loaders: Loaders

    def start(self, *arguments: str, harm: str = "none", **env: object) -> Loader:
        return self.loaders.start(*arguments, harm=harm, **env)

    def faults(self, *, is_complete: bool = True) -> list[Fault]:
        """What is amiss in the warehouse, which no loader may have open."""
        return self.ledger.faults(self.warehouse, is_complete=is_complete)

    def finish(self) -> None:
        """Load what is left; all is in the warehouse then, once, and nowhere else."""
        self.loaders.finish()
        assert self.faults() == []

    def wait_until_loaded(self, *loaders: Loader) -> None:
        """Wait until these loaders have between them committed all that Kafka has."""
        ends = {
            (topic, partition): end
            for topic in (TELEMETRY, ORIGINALS)
            for partition, end in self.kafka.end_offsets(topic).items()
        }

        def is_loaded() -> bool:
            reached: dict[tuple[str, int], int] = {}
            for loader in loaders:
                for key, offset in loader.loaded.items():
                    reached[key] = max(offset, reached.get(key, 0))
            return all(reached.get(key, 0) >= end for key, end in ends.items())

        loaders[-1].wait_until(is_loaded, "all is loaded")


def make_scene(
    warehouse: Warehouse, kafka: Cluster, env: Mapping[str, str], folder: Path, seed: int | str
) -> Scene:
    """A scene with two topics; ``env`` are the settings of the loaders, ``folder`` takes what they say."""
    ledger = Ledger()
    feed = Feed(kafka, ledger, seed)
    feed.create(TELEMETRY, PARTITIONS)
    feed.create(ORIGINALS)
    return Scene(warehouse, kafka, ledger, feed, Loaders(folder, env))
