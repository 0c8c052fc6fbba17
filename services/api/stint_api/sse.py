"""Server-Sent Events: their form, and a response that ends with its client."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from stint_api.background import cancel

PING: Final = b": ping\n\n"
"""Keeps idle connections open; clients ignore it."""


def event(name: str, data: Mapping[str, Any], *, event_id: str) -> bytes:
    """One event. ASCII only, since clients disagree about what ends a line of Unicode text."""
    return f"event: {name}\nid: {event_id}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


class EventStream(StreamingResponse):
    """Sends what a generator yields. As soon as the client is gone, the generator is closed."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        # The header keeps proxies from collecting events before they pass them on.
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send until the generator ends or the client leaves."""
        sending = asyncio.create_task(self.stream_response(send))
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(sending, leaving)
            await self._events.aclose()
        failure = None if sending.cancelled() else sending.exception()
        if failure is not None and not isinstance(failure, OSError):  # that is how some servers say: disconnected
            raise failure
