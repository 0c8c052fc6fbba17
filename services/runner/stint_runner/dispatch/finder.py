"""Finds queues that may have work: by hints, and by looking around in case hints were lost."""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import structlog

from stint.core.errors import BrokerUnavailableError, StintError
from stint.ports import Hint, WorkQueues
from stint.process.background import Background, BackgroundTask
from stint.process.waiting import InterruptedByEventError, any_of, unless
from stint_runner.dispatch.backlog import Backlog, Lead

log = structlog.get_logger()

RECONCILE: Final = 5.0  # seconds between two looks at all queues that have jobs, as hints may be lost; jittered by half
LOOK: Final = 0.5  # minimum of the seconds between two looks: a full runner looks again when it has a free slot
LEAVE: Final = 0.25  # seconds without a free slot after which a runner no longer listens to hints
PASSES: Final = 3  # how often a hint is passed on by runners without a free slot before it stays with one of them
PAUSE: Final = 1.0  # seconds between two attempts while the broker is unavailable


class Finder:
    """Fills a runner's backlog. `has_room`: for one more fresh lead; `is_fit`: it can run jobs, as far as it knows."""

    def __init__(
        self, queues: WorkQueues, backlog: Backlog, has_room: Callable[[], bool], is_fit: Callable[[], bool]
    ) -> None:
        self._queues = queues
        self._backlog = backlog
        self._has_room = has_room
        self._is_fit = is_fit
        self._seen: Mapping[str, int] = {}
        self._unheard = True  # hints may have been sent while this runner did not listen
        self._freed = asyncio.Event()
        self._listens, self._leaves = asyncio.Event(), asyncio.Event()
        self._listens.set()
        self._leaving: asyncio.TimerHandle | None = None
        self._tasks = Background(
            BackgroundTask(name="reconcile", run=self._look_around, missing="The runner cannot list pending jobs."),
            BackgroundTask(name="hints", run=self._listen, missing="The runner does not listen to hints of new jobs."),
        )
        self.running = self._tasks.running
        self.missing = self._tasks.missing

    def full(self) -> None:
        """No slot is free any more."""
        self._leaving = asyncio.get_running_loop().call_later(LEAVE, self._leave)

    def freed(self) -> None:
        """A slot is free again: look around soon, since hints were left to others or may lie with them."""
        if self._leaving:
            self._leaving.cancel()
        self._leaves.clear()
        self._listens.set()
        self._freed.set()

    def _leave(self) -> None:
        self._listens.clear()
        self._leaves.set()

    async def _listen(self) -> None:
        """Consider hints, except while the runner is full for some time: then they go to other runners at once."""
        while True:
            await self._listens.wait()
            try:
                with suppress(BrokerUnavailableError):
                    await unless(self._leaves, self._consider_all())
                self._unheard, self._seen = True, {}
                await asyncio.sleep(PAUSE)
            except InterruptedByEventError:
                await self.pass_on()

    async def pass_on(self) -> None:
        """Tell other runners of the hints that wait. They stay here, too: there may be no other runner."""
        with suppress(BrokerUnavailableError):
            for lead in self._backlog.hinted():
                await self._queues.hint(lead.token, returned=lead.returned)

    async def _consider_all(self) -> None:
        async with self._queues.hints() as hints:
            async for hint in hints:
                await self._consider(hint)

    async def _consider(self, hint: Hint) -> None:
        """Keep a hint if there is a slot for it, or if it concerns a queue of this runner; otherwise pass it on.

        A hint that nobody has a slot for stays where it was passed to last, or comes back to when there is nobody else.
        A runner that cannot run jobs passes on all hints, also those of the jobs that it has just given back.
        """
        mine, room = self._backlog.is_taken(hint.token), self._has_room()
        if (self._is_fit() and (mine or room or hint.ours)) or hint.passed >= PASSES:
            self._backlog.add(Lead(hint.token, hinted=True, fresh=room and not mine, returned=hint.returned))
        else:
            await self._queues.hint(hint.token, passed=hint.passed + 1, returned=hint.returned)

    async def _look_around(self) -> None:
        """Look at all queues from time to time, and in between at those whose number of jobs has changed."""
        loop, all_due = asyncio.get_running_loop(), 0.0
        while True:
            looked_at = loop.time()
            if looked_at >= all_due:
                self._seen = {}
                all_due = looked_at + RECONCILE * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            pause = RECONCILE
            self._freed.clear()
            try:
                await self._look()
            except BrokerUnavailableError:
                pause = PAUSE
            except StintError as error:
                log.error("pending jobs cannot be listed", error=error.sentence)  # noqa: TRY400 - a sentence says it
            await any_of(self._freed, within=min(pause, all_due - looked_at))
            await asyncio.sleep(looked_at + LOOK - loop.time())

    async def _look(self) -> None:
        """Add the queues that are new since the last look, or have another number of jobs.

        In random order, so that runners that look at the same time try different ones. Where hints may have been lost,
        any queue's job may have been given back.
        """
        found = await self._queues.pending()
        new = [token for token, jobs in found.items() if self._seen.get(token) != jobs]
        returned, self._unheard, self._seen = self._unheard, False, found
        random.shuffle(new)
        for token in new:
            if not self._backlog.is_taken(token):
                self._backlog.add(Lead(token, returned=returned))
