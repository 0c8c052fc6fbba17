"""What stands between a runner and NATS: it can stop forwarding without closing, or cut."""

import asyncio

from tests.support.relay import Relay


class Proxy(Relay):
    """What came in while it stalled goes on afterwards, late."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def sent(self, data: bytes) -> bytes:
        await self._flowing.wait()
        return data

    answered = sent

    def stall(self) -> None:
        """Connections stay, new ones are taken, and nothing gets through."""
        self._flowing.clear()

    def drop(self) -> None:
        """Connections are reset, and new ones too."""
        self.refusing = True
        self.cut()

    def heal(self) -> None:
        self.refusing = False
        self._flowing.set()
