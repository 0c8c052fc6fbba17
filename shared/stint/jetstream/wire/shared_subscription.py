"""A subscription that many share."""

import asyncio
from collections.abc import Awaitable, Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription


class SharedSubscription:
    """A subscription that is made when it is first needed, and stays as long as the client."""

    def __init__(self, client: Client, subject: str, heard: Callable[[Msg], Awaitable[None]]) -> None:
        self._client = client
        self._subject = subject
        self._heard = heard
        self._subscription: asyncio.Future[Subscription] | None = None

    async def begin(self) -> None:
        """Return once no message can be missed; does nothing if that was done before. Needs a connection."""
        made = self._subscription
        if made is None or (made.done() and (made.cancelled() or made.exception())):
            made = asyncio.ensure_future(self._client.subscribe(self._subject, cb=self._heard))
            self._subscription = made
        if not made.done():
            await asyncio.shield(made)  # a second subscription would receive everything twice
