"""What Prometheus reads: how long answers took, and how the jobs stand. Nothing is kept outside a `Metrics`."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stint.errors import BrokerUnavailableError
from stint.job import TERMINAL, State
from stint.view import JobView

SERVICE: Final = "gostint"
"""The value of the label `service`: dashboards made for GoStint go on."""
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: Prometheus' own defaults, as GoStint has them. The Python library's are others."""
UNKNOWN_PATH: Final = "unknown"
"""The label `path` of all paths that no route stands at: clients cannot make label values."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
"""Any other method is counted as `other`, for the same reason."""

Jobs = Callable[[], Iterable[JobView]]


class Metrics:
    """One application's own registry."""

    def __init__(self, jobs: Jobs) -> None:
        """`jobs` gives those that can be seen, or raises BrokerUnavailableError while nobody knows them."""
        self._registry = CollectorRegistry()
        self._durations = Histogram(
            "gostint_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ("service", "code", "method", "path"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_JobGauges(jobs))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def answered(self, *, code: int, method: str, path: str, seconds: float) -> None:
        """Count an answer. `path` is a route's template, or `UNKNOWN_PATH`."""
        known = method if method in METHODS else "other"
        self._durations.labels(SERVICE, str(code), known, path).observe(seconds)

    async def endpoint(self) -> Response:
        """All figures of this process, in Prometheus' text format."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _JobGauges(Collector):
    """Made when they are read. Left out while the list of jobs is not known: no figure is better than a wrong one."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        try:
            found = list(self._jobs())
        except BrokerUnavailableError:
            return
        counts = Counter(job.status for job in found)
        by_status = GaugeMetricFamily("stint_jobs", "Jobs that can be seen.", labels=("status",))
        for state in State:
            if state is not State.DELETED:
                by_status.add_metric((state.value,), counts[state])
        yield by_status
        queues = {job.qname for job in found if job.status not in TERMINAL}
        yield GaugeMetricFamily("stint_queues", "Queues with jobs that are not over.", value=len(queues))
        held = sum(job.held for job in found)
        yield GaugeMetricFamily("stint_held_jobs", "Jobs whose queue waits for a lost runner or a release.", value=held)


class Metered:
    """Measures every answer, also those that no route gives. An answer that is streamed counts when it ends."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, routes: Sequence[Route]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, and count the answer. An error that escapes is a 500 to the client; no answer, no count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, code = time.perf_counter(), 0

        async def watch(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            code = code or HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            if code:
                seconds = time.perf_counter() - begin
                path = self._template(scope["path"])
                self._metrics.answered(code=int(code), method=scope["method"], path=path, seconds=seconds)

    def _template(self, path: str) -> str:
        found = (route.path_format for route in self._routes if route.path_regex.match(path))
        return next(found, UNKNOWN_PATH)
