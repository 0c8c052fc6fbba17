"""Server-Sent Events: their form, and the response that sends them."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

from stint_api.web.streaming import Stream

PING: Final = b": ping\n\n"
"""Keeps idle connections open; clients ignore it."""


def event(name: str, data: Mapping[str, Any], *, event_id: str = "") -> bytes:
    """One event; without an id the client keeps the last one. ASCII only: clients disagree about the ends of lines."""
    ident = f"id: {event_id}\n" if event_id else ""
    return f"event: {name}\n{ident}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def event_stream(events: AsyncGenerator[bytes, None], closed: Callable[[], None]) -> Stream:
    """The answer that sends events as they come. `closed` is called at its end."""
    # The second header keeps proxies from collecting events before they pass them on.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Stream(events, media_type="text/event-stream", headers=headers, closed=closed)
