"""The queues that may have work, in the order in which a runner tries them."""

import asyncio
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

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
