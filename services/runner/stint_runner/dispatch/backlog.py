"""The queues that may have work, in the order in which a runner tries them."""

import asyncio
from typing import NamedTuple


class Lead(NamedTuple):
    """A queue that may have work.

    Attributes:
        fresh: a hint has just said so, and there was a free slot for it.
        returned: its next job was given back. A look at the queue does not show that.
    """

    token: str
    fresh: bool = False
    returned: bool = False


class Backlog:
    """The queues that this runner should try next, each at most once: first the fresh ones, then the others in turn.

    A queue that is taken is not handed out again before it is released; if it was added meanwhile it comes back then.
    """

    def __init__(self) -> None:
        self._fresh: dict[str, Lead] = {}  # both in their order
        self._others: dict[str, Lead] = {}
        self._taken: set[str] = set()
        self._added: dict[str, Lead] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._fresh) + len(self._others)

    @property
    def fresh(self) -> int:
        """The number of fresh leads that wait."""
        return len(self._fresh)

    def is_taken(self, token: str) -> bool:
        """Whether a slot has this queue."""
        return token in self._taken

    def add(self, lead: Lead) -> None:
        """This queue may have work."""
        if lead.token in self._taken:
            line = self._added
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
        line = self._fresh or self._others
        lead = line.pop(next(iter(line)))
        self._taken.add(lead.token)
        return lead

    def release(self, token: str, *, again: bool) -> None:
        """Done with a queue for now; `again` puts it at the end of the line."""
        self._taken.discard(token)
        added = self._added.pop(token, None)
        if again or added:
            self.add(Lead(token, returned=bool(added and added.returned)))


def _both(lead: Lead, other: Lead) -> Lead:
    """What two leads to the same queue say together."""
    return Lead(lead.token, fresh=lead.fresh or other.fresh, returned=lead.returned or other.returned)
