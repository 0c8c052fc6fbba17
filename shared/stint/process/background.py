"""Tasks that a service needs for as long as it runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

log = structlog.get_logger()

RESTART_PAUSE: Final = 1.0
"""Seconds before a part that failed is started again."""
STEADY: Final = 5.0
"""Seconds that it must run after that until it counts as working: what fails at once each time never does."""
CANCEL_AGAIN: Final = 0.2
"""Seconds after which a task that did not end is cancelled once more: up to Python 3.11 `asyncio.wait_for`, which the
NATS client uses, loses a cancellation that comes together with a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of these tasks.

    Attributes:
        name: what the log calls it.
        run: works until cancelled.
        missing: a sentence, what the service lacks while this does not work.
        works: whether it works at the moment, if that is more than to run.
        once: it returns when all is done, and works from then on.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    missing: str
    works: Callable[[], bool] = lambda: True
    once: bool = False


class Background:
    """A service's parts. One that fails, or ends before its time, is started again."""

    def __init__(self, *parts: Part, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._monotonic = monotonic
        self._failed: dict[str, float] = {}
        self._waiting = {part.name for part in parts}

    def missing(self) -> str:
        """What the first part that does not work lacks the service, "" if all do. None works before it was started."""
        return next((part.missing for part in self._parts if not self._works(part)), "")

    async def run(self) -> None:
        """Run them until cancelled."""
        async with self.running():
            await asyncio.Event().wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run them during the block."""
        tasks = [asyncio.create_task(self._keep(part), name=part.name) for part in self._parts]
        try:
            yield
        finally:
            await cancel(*tasks)

    def _works(self, part: Part) -> bool:
        ago = self._monotonic() - self._failed.get(part.name, -STEADY - RESTART_PAUSE)
        return part.name not in self._waiting and ago >= RESTART_PAUSE + STEADY and part.works()

    async def _keep(self, part: Part) -> None:
        while True:
            if not part.once:
                self._waiting.discard(part.name)
            try:
                await part.run()
            except Exception:  # whatever it was, the service needs this part
                log.exception("background task failed, starting it again", task=part.name)
            else:
                if part.once:
                    self._waiting.discard(part.name)
                    return
                log.error("background task ended, starting it again", task=part.name)
            self._failed[part.name] = self._monotonic()
            await asyncio.sleep(RESTART_PAUSE)


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """End tasks, however they end."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)
