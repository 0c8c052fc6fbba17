"""The queues that this runner should pull next."""

import asyncio


class Backlog:
    """Queues that may have work, each at most once, in turn.

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
