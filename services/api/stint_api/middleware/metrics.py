"""What Prometheus reads: how long answers took, and how the jobs stand. Nothing is kept outside a `Metrics`."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from stint.core.errors import BrokerUnavailableError
from stint.core.job import State
from stint_api.middleware.measured import Answered
from stint_api.read.index import Counts

SERVICE: Final = "gostint"
"""The value of the label `service`: dashboards made for GoStint keep working."""
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: Prometheus' own defaults, as GoStint has them. The Python library's are others."""


class Metrics:
    """One application's own registry."""

    def __init__(self, counts: Callable[[], Counts]) -> None:
        """`counts` tells how the jobs stand, or raises BrokerUnavailableError while nobody knows."""
        self._registry = CollectorRegistry()
        self._durations = Histogram(
            "gostint_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ("service", "code", "method", "path"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_JobGauges(counts))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def count(self, answered: Answered) -> None:
        """Count an answer."""
        labels = (SERVICE, str(answered.code), answered.method, answered.path)
        self._durations.labels(*labels).observe(answered.seconds)

    async def endpoint(self) -> Response:
        """All figures of this process, in Prometheus' text format."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _JobGauges(Collector):
    """Made when they are read. Left out while the list of jobs is not known: no figure is better than a wrong one."""

    def __init__(self, counts: Callable[[], Counts]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        try:
            counts = self._counts()
        except BrokerUnavailableError:
            return
        by_status = GaugeMetricFamily("stint_jobs", "Jobs that can be seen.", labels=("status",))
        for state in State:
            if state is not State.DELETED:
                by_status.add_metric((state.value,), counts.by_status.get(state, 0))
        yield by_status
        for name, words, value in (
            ("stint_queues", "Queues with jobs that are not over.", counts.queues),
            ("stint_held_jobs", "Jobs whose queue waits for a lost runner or a release.", counts.held),
            ("stint_unreadable_views", "Views that cannot be read, left out of lists and counts.", counts.unreadable),
        ):
            yield GaugeMetricFamily(name, words, value=value)
