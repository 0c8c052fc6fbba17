"""What the runners report of themselves, from the KV bucket `runners`, and what they are asked."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from copy import copy
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from stint.core.codec import decode
from stint.core.errors import UndecodableError
from stint.core.names.patterns import ALL_QUEUES, QueuePatterns
from stint.core.names.streams import RUNNERS_BUCKET
from stint.core.names.subjects import drain_subject
from stint.core.view import rfc3339
from stint.jetstream import Broker, Bucket

T = TypeVar("T")

REMEMBERED: Final = 1.0
"""Seconds for which an answer counts: anybody may ask, without a token."""

_STATES: Final = ("containers_running", "containers_paused", "containers_stopped")
NUMBERS: Final = ("containers", *_STATES, "images", "mem_total")
WORDS: Final = ("architecture", "operating_system")

ALIVE: Final = timedelta(seconds=30)
"""After this time without a report a runner counts as lost. It reports each 10 seconds."""

PATTERNS: Final = 64 * 1024
"""Characters of a runner's patterns of queues: 0.1 s for whoever asks first. A stranger's report can have a million."""
STARS: Final = 1000
"""Of them that are `*`. With 32,000, each with a letter behind it, it was half a second."""

Report = Mapping[str, Any]


class Shared(Generic[T]):
    """All who ask while the question is under way, or `REMEMBERED` seconds after it, get the same answer, or error."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._asking: asyncio.Task[T] | None = None
        self._good_until = 0.0

    async def __call__(self) -> T:
        """The answer. Raises what the question raises."""
        if self._asking is None or (self._asking.done() and self._monotonic() >= self._good_until):
            self._asking = asyncio.create_task(self._answer(), name="shared question")
        asking = self._asking
        await asyncio.wait({asking})
        if error := asking.exception():
            raise copy(error)  # the error itself is kept, and would keep the frames of each request that it passed
        return asking.result()

    async def _answer(self) -> T:
        try:
            return await self._ask()
        finally:
            self._good_until = self._monotonic() + REMEMBERED


class JetStreamRunnerReports:
    """Reads what runners report; requests share the question to NATS. Raises BrokerUnavailableError without NATS."""

    def __init__(self, broker: Broker, *, now: Callable[[], datetime]) -> None:
        self._broker = broker
        self._bucket = Bucket(broker, RUNNERS_BUCKET)
        self._now = now
        self._shared = Shared(self._ask)

    async def read(self) -> Sequence[Report]:
        """The reports of the runners that are alive."""
        return [report for report in await self.all() if report["alive"]]

    async def all(self) -> Sequence[Report]:
        """The last report of each runner that did not leave in order, for a day.

        To what the runner says, `alive` and `last_seen` (RFC 3339, by the clock of NATS) are added.
        """
        return await self._shared()

    async def _ask(self) -> Sequence[Report]:
        found, now = await self._bucket.ages(), self._now()
        return [
            report | {"runner": entry.key, "alive": age <= ALIVE, "last_seen": rfc3339(now - age)}
            for entry, age in found
            if entry.value and (report := _report(entry.value)) is not None
        ]

    async def drain(self, runner: str, by: str) -> None:
        """Ask a runner to take no more jobs. One that is cut off from NATS at this moment does not hear it."""
        await self._broker.send(drain_subject(runner), by.encode(errors="replace"))


def _report(body: bytes) -> dict[str, Any] | None:
    try:
        return decode(body, dict)
    except UndecodableError:
        return None


class Fleet:
    """Which queues the runners serve that are alive and take jobs, by their reports."""

    def __init__(self, reports: Sequence[Mapping[str, Any]]) -> None:
        self._last_seen = {str(report.get("runner")): str(report.get("last_seen") or "") for report in reports}
        self._room: defaultdict[QueuePatterns, bool] = defaultdict(bool)
        for report in reports:
            queues = report.get("queues")
            if report.get("draining") or len(str(queues)) > PATTERNS or str(queues).count("*") > STARS:
                continue
            patterns = QueuePatterns.of(map(str, queues) if isinstance(queues, list) else ())
            self._room[patterns] |= number_of(report.get("busy")) < number_of(report.get("capacity"))

    def serves(self, qname: str) -> bool:
        """Whether one of them would run the queue's jobs."""
        return any(patterns.serves(qname) for patterns in self._room)

    @property
    def serves_all(self) -> bool:
        """Whether one of them serves all queues."""
        return ALL_QUEUES in self._room

    def has_room(self, qname: str) -> bool:
        """Whether one of these had a free slot when it reported last."""
        return any(room and patterns.serves(qname) for patterns, room in self._room.items())

    def last_seen(self, runner: str) -> str:
        """When this runner reported last, RFC 3339, "" if it is not alive."""
        return self._last_seen.get(runner, "")


def summary(reports: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Numbers are summed over the engines, distinct words joined; "0" and "" without runners."""
    reports = list(_engines(reports))
    figures = {name: str(sum(int(number_of(report.get(name))) for report in reports)) for name in NUMBERS}
    words = {name: ", ".join(sorted({str(report[name]) for report in reports if report.get(name)})) for name in WORDS}
    return figures | words


def _engines(reports: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """One report of each engine, the newest: several runners may use the same. Those that name none count each."""
    by_engine: dict[object, Mapping[str, Any]] = {}
    for number, report in enumerate(reports):
        engine_id = report.get("engine_id")
        by_engine[engine_id if isinstance(engine_id, str) and engine_id else number] = report
    return by_engine.values()


def number_of(value: Any) -> float:
    """A number, 0 for what is none."""
    return float(value) if isinstance(value, int | float) and abs(value) < 1 << 63 else 0
