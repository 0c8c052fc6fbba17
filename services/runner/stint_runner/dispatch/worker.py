"""Passes the jobs of queues with work to the dispatcher, as many at a time as there are slots."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

import structlog

from stint.core.errors import BrokerUnavailableError, UnfitError
from stint.ports import Delivery, Turn, WorkQueues
from stint.process.waiting import InterruptedByEventError, any_of, unless
from stint_runner.dispatch.dispatcher import Dispatcher
from stint_runner.dispatch.finder import LOOK, PAUSE, RECONCILE, Backlog, Finder, Lead, Tried
from stint_runner.linux import boot_time

log = structlog.get_logger()

PULL_WAIT: Final = 0.05  # seconds that a pull holds a slot if another runner was faster. A loaded cluster may need 0.03

PATIENCE: Final = 20  # tries without success, besides two for each slot, until a runner waits for its next look


class Worker:
    """Runs jobs until told to stop.

    A slot is taken before a queue is pulled, so that no delivery waits in a runner without a free slot. A queue is
    looked at before it is pulled, so that no slot waits for a queue that has nothing to deliver.
    """

    def __init__(self, queues: WorkQueues, dispatcher: Dispatcher, *, capacity: int) -> None:
        self._queues = queues
        self._dispatcher = dispatcher
        self._capacity = capacity
        self._backlog = Backlog(patience=2 * capacity + PATIENCE)
        self._finder = Finder(queues, self._backlog, self._has_room, lambda: not self._unfit, dispatcher.resumed)
        self._draining = asyncio.Event()
        self._unfit = False
        self._trying = 0  # slots that try a fresh lead now
        self.busy = 0  # jobs that are processed here now

    def drain(self) -> None:
        """Take no more jobs; `run` returns when those that are running have ended."""
        self._draining.set()
        self._dispatcher.drain()

    @property
    def draining(self) -> bool:
        """Whether it takes no more jobs."""
        return self._draining.is_set()

    def missing(self) -> str:
        """Why this runner cannot find jobs, "" if it can."""
        return self._finder.missing()

    def _has_room(self) -> bool:
        """Whether a slot would try one more fresh lead at once."""
        if self._unfit or self._draining.is_set():
            return False
        return self.busy + self._trying + self._backlog.fresh < self._capacity

    async def run(self, adopted: Sequence[asyncio.Task[None]] = ()) -> None:
        """Work until drained. Adopted jobs occupy slots. A cancellation stops the running jobs' containers."""
        try:
            async with asyncio.TaskGroup() as slots:
                for number in range(max(self._capacity, len(adopted))):
                    slots.create_task(self._slot(number, adopted), name=f"slot-{number}")
                async with self._finder.running():
                    await self._draining.wait()
                await self._finder.pass_on(self._backlog.hinted())
        finally:
            await self._dispatcher.cleaned_up()

    async def _slot(self, number: int, adopted: Sequence[asyncio.Task[None]]) -> None:
        if number < len(adopted):
            await self._finish_adopted(adopted[number])
        if number >= self._capacity:
            return
        while lead := await self._next():
            tried = Tried.DONE
            try:
                tried = await self._serve(lead)
            except BrokerUnavailableError:
                await asyncio.sleep(PAUSE)
            except UnfitError as error:
                await self._step_back(error)
                self._backlog.add(Lead(lead.token, hinted=True, returned=True))  # if nobody had a slot, nobody was told
            except Exception:  # one job can never take a runner down
                log.exception("queue not served")
            finally:
                self._backlog.release(lead.token, tried)

    async def _finish_adopted(self, adopted: asyncio.Task[None]) -> None:
        with self._occupied():
            try:
                await adopted
            except Exception:  # one job can never take a runner down
                log.exception("adopted job not processed to its end")

    async def _step_back(self, error: UnfitError) -> None:
        """Pause this slot for a while. Other runners with a free slot were told of the job when it was given back."""
        if not self._unfit:
            log.error("this runner cannot run jobs, retrying", error=error.sentence)
        self._unfit = True
        await any_of(self._draining, within=RECONCILE)

    async def _next(self) -> Lead | None:
        try:
            lead = await unless(self._draining, self._backlog.take())
        except InterruptedByEventError:
            return None
        return None if self._draining.is_set() else lead

    async def _serve(self, lead: Lead) -> Tried:
        """Run the queue's next job, and those after it while no other queue waits."""
        self._trying += lead.fresh
        pulled_at = boot_time()
        try:
            delivery = await self._find(lead)
        finally:
            self._trying -= lead.fresh
        if delivery is None:
            return Tried.VAIN
        while delivery is not None:
            await self._process(delivery, pulled_at)
            look = delivery.left or await self._queues.look(lead.token)
            if look.turn is not Turn.FREE:
                break
            if self._backlog or self._draining.is_set():
                await self._queues.hint(lead.token)  # another runner may have a free slot sooner
                return Tried.MORE
            pulled_at = boot_time()
            delivery = await self._queues.pull(lead.token, PULL_WAIT, look)
        return Tried.DONE

    async def _find(self, lead: Lead) -> Delivery | None:
        """The queue's next job, None if it has none, or if another runner has it.

        A queue that a fresh hint is about is pulled even if it seems to be empty: the look may have come too early. So
        is one whose job was given back, although it seems to be held. If it is still empty, it is looked at once more
        later: the server that leads a consumer can hear of a job long after the hint. To wait for it would hold a slot.
        """
        look = await self._queues.look(lead.token)
        seems = {Turn.EMPTY: lead.fresh, Turn.HELD: lead.returned, Turn.FREE: True, Turn.DENIED: False}
        found = await self._queues.pull(lead.token, PULL_WAIT, look) if seems[look.turn] else None
        if found is None and look.turn is Turn.EMPTY and lead.hinted:
            asyncio.get_running_loop().call_later(LOOK, self._backlog.add, Lead(lead.token))
        return found

    async def _process(self, delivery: Delivery, pulled_at: float) -> None:
        with self._occupied():
            await self._dispatcher.process(delivery, pulled_at=pulled_at)
        self._unfit = False
        await self._dispatcher.clean_ups_below(self._capacity)

    @contextlib.contextmanager
    def _occupied(self) -> Iterator[None]:
        self.busy += 1
        if self.busy == self._capacity:
            self._finder.full()
        try:
            yield
        finally:
            if self.busy == self._capacity:
                self._finder.freed()
            self.busy -= 1
