"""Which queues this runner should look at next."""

import asyncio
from collections import deque


class Backlog:
    """Queues that may have work, each at most once, in turn.

    A queue that is taken is not handed out again before it is released; if it was added meanwhile it comes back then.
    """

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._known: set[str] = set()
        self._taken: set[str] = set()
        self._added: set[str] = set()
        self._some = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    async def add(self, token: str) -> None:
        """This queue may have work."""
        if token in self._taken:
            self._added.add(token)
        elif token not in self._known:
            self._known.add(token)
            self._waiting.append(token)
            async with self._some:
                self._some.notify()

    async def take(self) -> str:
        """The queue that has waited longest."""
        async with self._some:
            await self._some.wait_for(lambda: self._waiting)
        token = self._waiting.popleft()
        self._known.discard(token)
        self._taken.add(token)
        return token

    async def release(self, token: str, *, again: bool) -> None:
        """Done with a queue for now; `again` puts it at the end of the line."""
        self._taken.discard(token)
        again = again or token in self._added
        self._added.discard(token)
        if again:
            await self.add(token)
