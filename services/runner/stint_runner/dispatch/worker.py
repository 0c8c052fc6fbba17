"""Finds queues with work and passes their jobs to the dispatcher, as many at a time as there are slots."""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Final

import structlog

from stint.core.errors import BrokerUnavailableError, StintError, UnfitError
from stint.ports import WorkQueues
from stint.process.background import Background, BackgroundTask
from stint.process.waiting import InterruptedByEventError, unless
from stint_runner.dispatch.dispatcher import Dispatcher
from stint_runner.lease.leased_job import PULL_WAIT
from stint_runner.linux import boot_time

log = structlog.get_logger()

RECONCILE: Final = 5.0
"""Seconds between two listings of pending queues, in case hints were lost; jittered by half."""

PAUSE: Final = 1.0
"""Seconds between two attempts while the broker is unavailable."""


class Worker:
    """Runs jobs until told to stop.

    A slot is taken before a queue is pulled, so that no delivery waits in a runner without a free slot.
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
        """Jobs that are processed here now."""

    def drain(self) -> None:
        """Take no more jobs; `run` returns when those that are running have ended."""
        self._draining.set()
        self._dispatcher.drain()

    def missing(self) -> str:
        """Why this runner cannot find jobs, "" if it can."""
        return self._finders.missing()

    async def run(self, adopted: Sequence[asyncio.Task[None]] = ()) -> None:
        """Work until drained. Adopted jobs occupy slots. A cancellation stops the running jobs' containers."""
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
                self._backlog.release(token, again=again)
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
        """Let other runners have the job, and pause this slot for a while."""
        if not self._unfit:
            log.error("this runner cannot run jobs, retrying", error=error.sentence)
        self._unfit = True
        with contextlib.suppress(BrokerUnavailableError):
            await self._queues.hint(token)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECONCILE):
                await self._draining.wait()

    async def _next(self) -> str | None:
        """The next queue to pull, None once draining."""
        try:
            token = await unless(self._draining, self._backlog.take())
        except InterruptedByEventError:
            return None
        return None if self._draining.is_set() else token

    async def _serve(self, token: str) -> bool:
        """Process the queue's next job, if there is one. Returns whether to pull the queue again at once."""
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
                await self._queues.hint(token)  # another runner may have a free slot sooner
        return True

    async def _reconcile(self) -> None:
        while True:
            try:
                for token in await self._queues.pending():
                    self._backlog.add(token)
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
                        self._backlog.add(token)
            await asyncio.sleep(PAUSE)


class Backlog:
    """The queues that this runner should pull next, each at most once, in turn.

    A queue that is taken is not handed out again before it is released; if it was added meanwhile it comes back then.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}  # in their order
        self._taken: set[str] = set()
        self._added: set[str] = set()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, token: str) -> None:
        """This queue may have work."""
        if token in self._taken:
            self._added.add(token)
        else:
            self._waiting[token] = None
            self._some.set()

    async def take(self) -> str:
        """The queue that has waited longest."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        token = next(iter(self._waiting))
        del self._waiting[token]
        self._taken.add(token)
        return token

    def release(self, token: str, *, again: bool) -> None:
        """Done with a queue for now; `again` puts it at the end of the line."""
        self._taken.discard(token)
        if again or token in self._added:
            self.add(token)
        self._added.discard(token)
