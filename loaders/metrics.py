"""Prometheus metrics of a load, and a server for them; topics, reasons and counts, nothing of a record."""

import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from loaders.health import Pulse
from loaders.kafka.load import Observer
from loaders.warehouse.layout import VERSION
from loaders.warehouse.protocol import Batch

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_RECORDS = (1, 10, 100, 1_000, 5_000, 10_000, 50_000, 100_000)
_BYTES = (1e3, 1e4, 1e5, 1e6, 4e6, 16e6, 64e6)
_PARTITION = ("topic", "partition")


class LoadMetrics(Observer):
    """An observer of a load that counts."""

    def __init__(self, pulse: Pulse) -> None:
        """``pulse`` is told of the same load."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_Partitions(pulse))
        Info("cdw_build", "Versions of cdw and of the raw layout that it writes.", registry=registry).info(
            {"version": version("clinical-data-warehouse"), "layout": str(VERSION)}
        )
        self._records = Counter(
            "cdw_load_records", "Records loaded into raw tables.", ["topic"], registry=registry
        )
        self._rejects = Counter(
            "cdw_load_rejects",
            "Records put among the rejects, by the code of the reason.",
            ["topic", "reason"],
            registry=registry,
        )
        self._bytes = Counter(
            "cdw_load_payload_bytes",
            "Bytes of the values of all records, rejects among them.",
            ["topic"],
            registry=registry,
        )
        self._explained = Counter(
            "cdw_load_explained_offsets",
            "Offsets without a record: control records, aborted transactions, compaction.",
            ["topic"],
            registry=registry,
        )
        self._batch_records = Histogram(
            "cdw_load_batch_records",
            "Records of a batch, which is of one partition.",
            ["topic"],
            buckets=_RECORDS,
            registry=registry,
        )
        self._batch_bytes = Histogram(
            "cdw_load_batch_bytes",
            "Bytes of the values of a batch.",
            ["topic"],
            buckets=_BYTES,
            registry=registry,
        )
        self._transaction = Histogram(
            "cdw_load_transaction_seconds",
            "Time from the beginning of a transaction that was committed to its end.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._committed_at = Gauge(
            "cdw_load_last_commit_timestamp_seconds",
            "When a transaction was committed last, 0 for not yet.",
            registry=registry,
        )

    def committed(self, batches: Sequence[Batch], seconds: float | None) -> None:
        """A transaction has been committed."""
        self._committed_at.set(time.time())
        if seconds is not None:
            self._transaction.observe(seconds)
        for batch in batches:
            topic = batch.partition.topic.name
            self._records.labels(topic).inc(len(batch.rows))
            self._bytes.labels(topic).inc(batch.byte_count)
            self._explained.labels(topic).inc(batch.explained_count)
            self._batch_records.labels(topic).observe(len(batch.rows) + len(batch.rejects))
            self._batch_bytes.labels(topic).observe(batch.byte_count)
            for reject in batch.rejects:
                self._rejects.labels(topic, reject.reason).inc()


class _Partitions(Collector):
    """What is so at the moment of asking: partitions that were given away are no longer there."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: the registry need not know the names beforehand."""
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The partitions of this loader, what it waits for, and how well it is."""
        view, health = self._pulse.view, self._pulse.health()
        position = GaugeMetricFamily(
            "cdw_load_position_offset",
            "Next offset to load, as committed in the warehouse.",
            labels=_PARTITION,
        )
        end = GaugeMetricFamily(
            "cdw_load_end_offset", "Offset after the last record that may be read.", labels=_PARTITION
        )
        lag = GaugeMetricFamily(
            "cdw_load_lag_records", "Offsets from the position to the end.", labels=_PARTITION
        )
        withheld = GaugeMetricFamily(
            "cdw_load_withheld_records",
            "Offsets behind an open transaction, which no reader is given before it ends.",
            labels=_PARTITION,
        )
        age = GaugeMetricFamily(
            "cdw_load_oldest_unloaded_age_seconds",
            "How long the oldest record that is not loaded has been waiting in Kafka, 0 where there is none.",
            labels=_PARTITION,
        )
        now = time.time()
        for key, each in view.partitions.items():
            labels = [key.topic, str(key.number)]
            position.add_metric(labels, each.position)
            if each.end is not None:
                end.add_metric(labels, each.end)
                lag.add_metric(labels, each.lag)
                withheld.add_metric(labels, each.withheld)
            age.add_metric(labels, 0 if each.since is None else max(now - each.since, 0))
        waiting = GaugeMetricFamily(
            "cdw_load_waiting", "1 where nothing is loaded because this part is away.", labels=["part"]
        )
        for part in ("kafka", "registry", "warehouse"):
            waiting.add_metric([part], health.waiting_for == part)
        yield from (position, end, lag, withheld, age, waiting)
        yield GaugeMetricFamily(
            "cdw_load_assigned_partitions", "Partitions that this loader loads.", value=health.partitions
        )
        yield GaugeMetricFamily(
            "cdw_load_unknown_seconds",
            "How long there may have been records that this loader does not know of.",
            value=health.unknown_seconds,
        )
        yield GaugeMetricFamily("cdw_load_healthy", "1 where /health answers 200.", value=health.is_well)
