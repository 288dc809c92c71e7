"""What ``cdw load`` tells of itself while it runs: a log, and metrics where an address is named for them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from loaders.health import Pulse
from loaders.kafka.load import Observer
from loaders.kafka.watch import View
from loaders.metrics import LoadMetrics
from loaders.probes import metrics_address, serve
from loaders.settings import Settings
from loaders.warehouse.protocol import Batch

log = structlog.get_logger()

_SECONDS_A_LINE = 10.0


class LoadLog(Observer):
    """Logs how a load goes, every ten seconds in which it did anything."""

    def __init__(self) -> None:
        """Nothing has been loaded yet."""
        self._begin()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._rows = self._rejects = 0

    def committed(self, batches: Sequence[Batch], seconds: float | None) -> None:
        """A transaction has been committed."""
        if not self._rows + self._rejects:
            # Idle before: its seconds are none of loading.
            self._since = max(self._since, time.monotonic() - (seconds or 0))
        self._rows += sum(len(batch.rows) for batch in batches)
        self._rejects += sum(len(batch.rejects) for batch in batches)

    def seen(self, view: View) -> None:
        """How far the load is."""
        seconds = time.monotonic() - self._since
        count = self._rows + self._rejects
        if count and seconds >= _SECONDS_A_LINE:
            log.info(
                "loaded",
                rows=self._rows,
                rejects=self._rejects,
                records_per_second=round(count / seconds),
                lag=sum(each.lag for each in view.partitions.values()),
            )
            self._begin()


@contextmanager
def observers(settings: Settings, address: str | None, *, is_open: bool) -> Iterator[list[Observer]]:
    """Those who are told of a load; until the block is left, metrics are served where there is an address.

    Args:
        settings: CDW_METRICS_ADDRESS, which ``address`` goes before, and CDW_HEALTH_MAX_AGE_SECONDS.
        address: HOST:PORT, or None.
        is_open: listen on other addresses than this machine's own.

    Raises:
        CdwError: the address cannot be used.
    """
    parsed = metrics_address(settings, address)
    if parsed is None:
        yield [LoadLog()]
        return
    pulse = Pulse(settings.health_max_age_seconds)
    metrics = LoadMetrics(pulse)
    with serve(parsed, metrics.registry, pulse.health, is_open=is_open) as port:
        log.info("metrics_served", host=parsed.host, port=port)
        yield [LoadLog(), pulse, metrics]
