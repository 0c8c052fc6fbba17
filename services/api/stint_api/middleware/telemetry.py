"""Every answer is measured once, for Prometheus and for the access log. No line holds anything that a client wrote."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from http import HTTPMethod, HTTPStatus
from typing import Final, TypeVar

import structlog
from fastapi.routing import RouteContext, iter_route_contexts
from prometheus_client import CollectorRegistry, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stint.core.errors import StintError
from stint.core.job import State
from stint.process.health import Failing
from stint_api.errors import CLIENT_LEFT, RefusalError, error_answer
from stint_api.read.listing.query import Counts
from stint_api.web.connections import REFUSED

log = structlog.get_logger()

T = TypeVar("T")

SERVICE: Final = "gostint"
"""The value of the label `service`: dashboards made for GoStint keep working."""
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: Prometheus' own defaults, as GoStint has them. The Python library's are others."""
UNKNOWN_PATH: Final = "unknown"
"""The path of all requests that fit no route: clients cannot make label values."""
METHODS: Final = frozenset(HTTPMethod)
"""Any other method counts as `other`, for the same reason."""
PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Asked every few seconds by whoever supervises the process: logged only when they fail."""
ENDED: Final = "The API was stopped before it had finished. It is not known whether this was done. Try again."


class Metrics(Collector):
    """One application's own registry. What is not known is left out: no figure is better than a wrong one."""

    def __init__(
        self, counts: Callable[[], Awaitable[Counts]], unserved: Callable[[], Awaitable[int]], failing: Failing
    ) -> None:
        """`counts` tells how many jobs there are, `unserved` how many wait where no runner serves; or a StintError."""
        self._failing = failing
        self._counts = counts
        self._unserved = unserved
        self._registry = CollectorRegistry()
        self.durations = Histogram(
            "gostint_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ("service", "code", "method", "path"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._known: tuple[Counts | None, int | None] = (None, None)
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    async def endpoint(self) -> Response:
        """All figures of this process, in Prometheus' text format."""
        self._known = await _if_known(self._counts), await _if_known(self._unserved)
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    def collect(self) -> Iterator[Metric]:
        """The figures of background tasks and of jobs, when the registry is read."""
        words = "Background tasks of this process that fail each time; its /readyz names them."
        yield GaugeMetricFamily("stint_failing_tasks", words, value=len(self._failing()))
        counts, unserved = self._known
        if counts is None:
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
        if unserved is not None:
            words = "Jobs that wait in queues that no runner serves."
            yield GaugeMetricFamily("stint_unserved_jobs", words, value=unserved)


async def _if_known(ask: Callable[[], Awaitable[T]]) -> T | None:
    try:
        return await ask()
    except StintError as error:
        log.debug("figures are left out", error=error.sentence)
        return None


class Telemetry:
    """Measures every answer, also those that no route gives. An answer that is streamed counts when it ends.

    A request that is cancelled before its answer has begun is answered here: uvicorn would say `Internal Server Error`.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure a request. An error that escapes is a 500 to the client; without an answer it is `CLIENT_LEFT`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, code, whole = time.perf_counter(), 0, False

        async def watch(message: Message) -> None:
            nonlocal code, whole
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)
            whole = message["type"] == "http.response.body" and not message.get("more_body")

        try:
            await self._app(scope, receive, watch)
        except asyncio.CancelledError:
            if code:
                raise
            await error_answer(RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, ENDED))(scope, receive, watch)
        except BaseException:
            code = code or HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            refused = scope.get("state", {}).get(REFUSED)
            cut_off = {"complete": False} if code and not whole and not refused else {}
            self._tell(scope, int(refused or code or CLIENT_LEFT), time.perf_counter() - begin, cut_off)

    def _tell(self, scope: Scope, code: int, seconds: float, cut_off: Mapping[str, bool]) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        # The route that answered, or that would have.
        route = scope.get("route") or next(routes_at(scope["app"].routes, scope["path"]), None)
        path = str(route.path_format) if route else UNKNOWN_PATH
        self._metrics.durations.labels(SERVICE, str(code), method, path).observe(seconds)
        if path in PROBES and code == HTTPStatus.OK:
            return
        caller = scope.get("state", {}).get("caller")
        who = {"who": caller.name, "entity": caller.entity, "accessor": caller.accessor} if caller else {"who": ""}
        log.info("request", method=method, route=path, status=code, ms=round(seconds * 1000, 1), **who, **cut_off)


def routes_at(routes: Sequence[BaseRoute], path: str) -> Iterator[RouteContext]:
    """The routes, also those of routers, whose template fits the path, whatever the method."""
    return (route for route in iter_route_contexts(routes) if route.path_regex.match(path))
