"""Tasks that run as long as their service runs."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

log = structlog.get_logger()

RESTART_PAUSE: Final = 1.0
"""Seconds before a failed task is restarted."""
STEADY: Final = 5.0
"""Seconds that a restarted task must run before it counts as working: one that always fails at once never does."""
FAILING: Final = 300.0
"""Seconds for which all rounds of a task must have failed before that is told beside the log. A round without a failure
for so long counts as one that works: some have no end."""
CANCEL_AGAIN: Final = 0.2
"""Seconds after which a task that did not end is cancelled again: up to Python 3.11 `asyncio.wait_for`, which the
NATS client uses, loses a cancellation that arrives together with a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundTask:
    """A task of a service.

    Attributes:
        run: runs until cancelled.
        missing: a sentence that says what is missing from the service while this task does not work.
        works: whether it works at the moment, if running alone does not prove that.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    missing: str
    works: Callable[[], bool] = lambda: True


@dataclass
class Rounds:
    """How the rounds of a task end, by what they do: a task may repeat several calls."""

    monotonic: Callable[[], float]
    _failures: dict[str, tuple[float, float]] = field(default_factory=dict)

    def ended(self, what: str, *, failed: bool) -> None:
        """Count a round."""
        now = self.monotonic()
        first, last = self._failures.pop(what, (now, now))
        if failed:
            self._failures[what] = (first if now - last < FAILING else now, now)

    def is_failing(self) -> bool:
        """Whether one of the calls has failed each time for `FAILING` seconds."""
        now = self.monotonic()
        return any(last - first >= FAILING and now - last < FAILING for first, last in self._failures.values())


rounds: Final[ContextVar[Rounds | None]] = ContextVar("rounds", default=None)
"""Those of the background task that is running here, None elsewhere."""


class Background:
    """The background tasks of a service. A task that fails, or returns too early, is restarted."""

    def __init__(self, *tasks: BackgroundTask, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tasks = tasks
        self._monotonic = monotonic
        self._works_from = {task.name: math.inf for task in tasks}
        self._rounds = {task.name: Rounds(monotonic) for task in tasks}

    def missing(self) -> str:
        """The `missing` of the first task that does not work, "" if all work. No task works before it is started."""
        return next((task.missing for task in self._tasks if not self._works(task)), "")

    def failing(self) -> Sequence[str]:
        """The `missing` of each task that runs, but has failed in each round for `FAILING` seconds."""
        return [task.missing for task in self._tasks if self._rounds[task.name].is_failing()]

    async def run(self) -> None:
        """Run them until cancelled."""
        async with self.running():
            await asyncio.Event().wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run them during the block."""
        tasks = [asyncio.create_task(self._keep(task), name=task.name) for task in self._tasks]
        try:
            yield
        finally:
            await cancel(*tasks)

    def _works(self, task: BackgroundTask) -> bool:
        return self._monotonic() >= self._works_from[task.name] and task.works()

    async def _keep(self, task: BackgroundTask) -> None:
        rounds.set(self._rounds[task.name])
        self._works_from[task.name] = -math.inf
        while True:
            try:
                await task.run()
            except Exception:  # the service needs this task, whatever the error
                log.exception("background task failed, restarting it", task=task.name)
            else:
                log.error("background task ended, restarting it", task=task.name)
            self._works_from[task.name] = self._monotonic() + RESTART_PAUSE + STEADY
            await asyncio.sleep(RESTART_PAUSE)


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)
