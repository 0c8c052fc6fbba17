"""Finds queues that may have work: by hints, and by looking around in case hints were lost; and orders them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

import structlog

from stint.core.errors import BrokerUnavailableError, StintError
from stint.ports import Hint, WorkQueues
from stint.process.background import Background, BackgroundTask
from stint.process.waiting import InterruptedByEventError, any_of, unless

log = structlog.get_logger()

RECONCILE: Final = 5.0  # seconds between two looks at all queues that have jobs, as hints may be lost; jittered by half
LOOK: Final = 0.5  # minimum of the seconds between two looks: a full runner looks again when it has a free slot
LEAVE: Final = 0.25  # seconds without a free slot after which a runner no longer listens to hints
PASSES: Final = 3  # how often a hint is passed on by runners without a free slot before it stays with one of them
PAUSE: Final = 1.0  # seconds between two attempts while the broker is unavailable
TURNS: Final = 4  # tries without success after which a queue that is known to have more jobs comes before all others


class Lead(NamedTuple):
    """A queue that may have work."""

    token: str
    hinted: bool = False  # a hint has said so, not only a look at all queues
    fresh: bool = False  # it was a moment ago, and there was a free slot for it
    # The queue's next job was given back, or may have been. A look at the queue does not show that.
    returned: bool = False


class Tried(Enum):
    """What became of a lead."""

    VAIN = auto()  # the queue had no job for this runner
    DONE = auto()  # it had, and has no more
    MORE = auto()  # it had, and has more, but others have their turn first


class Backlog:
    """The queues that this runner should try next, each at most once: first the fresh ones, then the others in turn.

    A queue that is taken is not handed out again before it is released; if it was added meanwhile it comes back then.
    A runner that has tried many queues without success drops those that only a look has found: another look will find
    them.
    """

    def __init__(self, *, patience: int) -> None:
        """`patience` is the number of tries without success after which that is done."""
        self._fresh: dict[str, Lead] = {}  # all in their order
        self._others: dict[str, Lead] = {}
        self._sure: dict[str, Lead] = {}
        self._taken: set[str] = set()
        self._added: dict[str, Lead] = {}
        self._some = asyncio.Event()
        self._patience = patience
        self._vain = 0

    def __len__(self) -> int:
        return len(self._fresh) + len(self._others) + len(self._sure)

    @property
    def fresh(self) -> int:
        """The number of fresh leads that wait."""
        return len(self._fresh)

    def hinted(self) -> Sequence[Lead]:
        """The hints that wait."""
        return [*self._fresh.values(), *(lead for lead in self._others.values() if lead.hinted)]

    def returned(self) -> Sequence[Lead]:
        """Those of the hints that wait that are about a job that was given back."""
        return [lead for lead in self.hinted() if lead.returned]

    def is_taken(self, token: str) -> bool:
        """Whether a slot has this queue."""
        return token in self._taken

    def add(self, lead: Lead) -> None:
        """This queue may have work."""
        if lead.token in self._taken:
            line = self._added
        elif lead.token in self._sure:
            line = self._sure
        elif lead.fresh or lead.token in self._fresh:
            line = self._fresh
            lead = _both(lead, self._others.pop(lead.token, lead))
        else:
            line = self._others
        line[lead.token] = _both(lead, line.get(lead.token, lead))
        self._some.set()

    async def take(self) -> Lead:
        """The first fresh queue, otherwise the one that has waited longest."""
        while not self:
            self._some.clear()
            await self._some.wait()
        line = self._next_line()
        lead = line.pop(next(iter(line)))
        self._taken.add(lead.token)
        return lead

    def _next_line(self) -> dict[str, Lead]:
        if self._fresh:
            return self._fresh
        if self._sure and (self._vain >= TURNS or not self._others):
            self._vain = 0
            return self._sure
        return self._others

    def release(self, token: str, tried: Tried) -> None:
        """Done with a queue for now."""
        self._vain = self._vain + 1 if tried is Tried.VAIN else 0
        if self._vain >= self._patience:
            self._vain = 0
            self._others = {lead.token: lead for lead in self._others.values() if lead.hinted or lead.returned}
        self._taken.discard(token)
        added = self._added.pop(token, None)
        if tried is Tried.MORE:
            self._sure[token] = Lead(token)
            self._some.set()
        elif added:
            self.add(added._replace(fresh=False))


def _both(lead: Lead, other: Lead) -> Lead:
    """What two leads to the same queue say together."""
    return Lead(lead.token, *(one or two for one, two in zip(lead[1:], other[1:], strict=True)))


@dataclass(eq=False)
class Finder:
    """Fills a runner's backlog."""

    queues: WorkQueues
    backlog: Backlog
    has_room: Callable[[], bool]  # for one more fresh lead
    is_fit: Callable[[], bool]  # it can run jobs, as far as it knows
    resumed: Callable[[], Awaitable[Collection[str]]]  # the queues that it knows to be paused no longer

    def __post_init__(self) -> None:
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
                await self.pass_on(self.backlog.hinted())

    async def pass_on(self, leads: Sequence[Lead]) -> None:
        """Tell other runners of hints that wait. They stay here, too: there may be no other runner."""
        with suppress(BrokerUnavailableError):
            for lead in leads:
                await self.queues.hint(lead.token, returned=lead.returned)

    async def _consider_all(self) -> None:
        async with self.queues.hints() as hints:
            async for hint in hints:
                await self._consider(hint)

    async def _consider(self, hint: Hint) -> None:
        """Keep a hint if there is a slot for it, or if it concerns a queue of this runner; otherwise pass it on.

        A hint that nobody has a slot for stays where it was passed to last, or comes back to when there is nobody else.
        A runner that cannot run jobs passes on all hints, also those of the jobs that it has just given back.
        """
        mine, room = self.backlog.is_taken(hint.token), self.has_room()
        if (self.is_fit() and (mine or room or hint.ours)) or hint.passed >= PASSES:
            self.backlog.add(Lead(hint.token, hinted=True, fresh=room and not mine, returned=hint.returned))
        else:
            await self.queues.hint(hint.token, passed=hint.passed + 1, returned=hint.returned)

    async def _look_around(self) -> None:
        """Look at all queues from time to time, and in between at those whose number of jobs has changed."""
        loop, all_due = asyncio.get_running_loop(), 0.0
        while True:
            looked_at = loop.time()
            at_all = looked_at >= all_due
            if at_all:
                self._seen = {}
                all_due = looked_at + RECONCILE * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            pause = RECONCILE
            self._freed.clear()
            try:
                await self._look()
                if at_all:  # a request for each that is still paused, so not whenever a slot is free
                    for token in await self.resumed():
                        self.backlog.add(Lead(token, hinted=True, returned=True))
                    # Another runner may have room, or have it soon, and only a hint tells it of these.
                    if self.is_fit() and not self.has_room():
                        await self.pass_on(self.backlog.returned())
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
        found = await self.queues.pending()
        new = [token for token, jobs in found.items() if self._seen.get(token) != jobs]
        returned, self._unheard, self._seen = self._unheard, False, found
        random.shuffle(new)
        for token in new:
            if not self.backlog.is_taken(token):
                self.backlog.add(Lead(token, returned=returned))
