"""Finds work and hands it to the dispatcher, as many jobs at a time as there are slots."""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Final

import structlog

from stint.core.errors import BrokerUnavailableError, StintError, UnfitError
from stint.ports import WorkQueues
from stint.process.background import Background, BackgroundTask
from stint_runner.dispatch.backlog import Backlog
from stint_runner.dispatch.dispatcher import Dispatcher
from stint_runner.lease.leased_job import PULL_WAIT
from stint_runner.linux import boot_time

log = structlog.get_logger()

RECONCILE: Final = 5.0
"""Seconds between two looks at what is pending, for hints that were lost; jittered by half."""

PAUSE: Final = 1.0
"""Seconds between two attempts while the broker is unavailable."""


class Worker:
    """Runs jobs until told to stop.

    A slot is taken before a queue is pulled, so that no delivery waits in a runner that has no room for it.
    """

    def __init__(self, queues: WorkQueues, dispatcher: Dispatcher, *, capacity: int) -> None:
        self._queues = queues
        self._dispatcher = dispatcher
        self._capacity = capacity
        self._backlog = Backlog()
        self._draining = asyncio.Event()
        self._finders = Background(
            BackgroundTask(name="reconcile", run=self._reconcile, missing="The runner cannot list pending jobs."),
            BackgroundTask(name="hints", run=self._listen, missing="Hints of new jobs are not listened to."),
        )
        self._unfit = False
        self.busy = 0
        """Jobs that run here now."""

    def drain(self) -> None:
        """Take no more jobs; `run` returns when those that are running have ended."""
        self._draining.set()
        self._dispatcher.drain()

    def missing(self) -> str:
        """Why this runner cannot find jobs, "" if it can."""
        return self._finders.missing()

    async def run(self, adopted: Sequence[asyncio.Task[None]] = ()) -> None:
        """Work until drained; adopted jobs take slots. Cancelling it ends the running jobs' containers."""
        try:
            async with self._finders.running(), asyncio.TaskGroup() as slots:
                for number in range(max(self._capacity, len(adopted))):
                    slots.create_task(self._slot(number, adopted), name=f"slot-{number}")
        finally:
            await self._dispatcher.close()

    async def _slot(self, number: int, adopted: Sequence[asyncio.Task[None]]) -> None:
        if number < len(adopted):
            await self._finish_adopted(adopted[number])
        if number >= self._capacity:
            return
        while token := await self._next():
            again = True
            try:
                again = await self._serve(token)
            except BrokerUnavailableError:
                await asyncio.sleep(PAUSE)
            except UnfitError as error:
                await self._step_back(token, error)
                again = False
            except Exception:  # one job can never take a runner down
                log.exception("queue not served")
                again = False  # the next reconcile brings it back
            finally:
                await self._backlog.release(token, again=again)
            await self._dispatcher.clean_ups_below(self._capacity)

    async def _finish_adopted(self, adopted: asyncio.Task[None]) -> None:
        self.busy += 1
        try:
            await adopted
        except Exception:  # one job can never take a runner down
            log.exception("adopted job not processed to its end")
        finally:
            self.busy -= 1

    async def _step_back(self, token: str, error: UnfitError) -> None:
        """Let the others have the job, and keep this slot out of the way for a while."""
        if not self._unfit:
            log.error("this runner cannot run jobs, retrying", error=error.sentence)
        self._unfit = True
        with contextlib.suppress(BrokerUnavailableError):
            await self._queues.hint(token)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECONCILE):
                await self._draining.wait()

    async def _next(self) -> str | None:
        """The next queue to look at, None once draining."""
        taking = asyncio.ensure_future(self._backlog.take())
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({taking, draining}, return_when=asyncio.FIRST_COMPLETED)
            return None if self._draining.is_set() or not taking.done() else taking.result()
        finally:
            for waiter in (taking, draining):
                waiter.cancel()
            await asyncio.gather(taking, draining, return_exceptions=True)

    async def _serve(self, token: str) -> bool:
        """Process the queue's next job, if it has one for us. Returns whether another look is worth it at once."""
        pulled_at = boot_time()
        delivery = await self._queues.pull(token, PULL_WAIT)
        if delivery is None:
            return False
        self.busy += 1
        try:
            await self._dispatcher.process(token, delivery, pulled_at=pulled_at)
        finally:
            self.busy -= 1
        self._unfit = False
        if self._backlog or self._draining.is_set():
            with contextlib.suppress(BrokerUnavailableError):
                await self._queues.hint(token)  # another runner may have a slot sooner
        return True

    async def _reconcile(self) -> None:
        while True:
            try:
                for token in await self._queues.pending():
                    await self._backlog.add(token)
            except BrokerUnavailableError:
                await asyncio.sleep(PAUSE)
                continue
            except StintError as error:
                log.error("pending jobs cannot be listed", error=error.sentence)  # noqa: TRY400 - a sentence says it
            await asyncio.sleep(RECONCILE * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(BrokerUnavailableError):
                async with self._queues.hints() as hints:
                    async for token in hints:
                        await self._backlog.add(token)
            await asyncio.sleep(PAUSE)
