"""Answers that are made piece by piece and end with their client, Server-Sent Events among them, or are compressed."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from stint.core.errors import StintError
from stint.process.background import cancel
from stint_api.errors import RefusalError

log = structlog.get_logger()

WHOLE: Final = 1024 * 1024
"""Bytes up to which a body is sent as a whole, with its length."""
PIECE: Final = 64 * 1024
"""Bytes that are sent at a time, or more: output may come in pieces of a few bytes."""
LAST: Final = 1.0
"""Seconds for what is still sent to a caller that was refused: the last event of a stream."""
EVENT_STREAM: Final = "text/event-stream"
PING: Final = b": ping\n\n"
"""An event that keeps idle connections open; clients ignore it."""

ZIPPED: Final = range(1000, 256 * 1024 + 1)
"""Bytes of answers that are compressed: less fits into one packet; more takes time, while nobody else is answered."""
_LEVEL: Final = 3
"""Takes half the time of level 6, for a tenth more bytes."""
_NO_GZIP: Final = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")


async def nobody_refuses() -> RefusalError:
    """For a stream that its caller may always read. It never returns."""
    refusal: asyncio.Future[RefusalError] = asyncio.get_running_loop().create_future()
    return await refusal


class Stream(StreamingResponse):
    """Sends what a generator yields. As soon as the client is gone or refused, the generator is closed."""

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        headers: Mapping[str, str],
        refused: Callable[[], Coroutine[Any, Any, RefusalError]] = nobody_refuses,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        """`refused` returns once the caller may have no more of it; `closed` is called when nothing more is sent."""
        super().__init__(pieces, headers=headers, media_type=media_type)
        self._pieces = pieces
        self._refused = refused
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send until the generator ends, the client leaves, or its caller is refused.

        When the generator fails the body is left without its end: the server then breaks the connection, which tells
        the client that what it has is not all.
        """
        sending = asyncio.create_task(self.stream_response(send))
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        refusing = asyncio.create_task(self._refused())
        try:
            await asyncio.wait({sending, leaving, refusing}, return_when=asyncio.FIRST_COMPLETED)
            if refusing.done() and not sending.done():
                await cancel(sending)
                await self._tell(refusing.result(), send)
        finally:
            self._closed()
            await cancel(sending, leaving, refusing)
            await self._pieces.aclose()
        failure = None if sending.cancelled() else sending.exception()
        if isinstance(failure, StintError):
            log.warning("an answer broke off", error=failure.sentence)
        elif failure is not None and not isinstance(failure, OSError):  # that is how some servers say: disconnected
            raise failure

    async def _tell(self, refusal: RefusalError, send: Send) -> None:
        """End a stream of events with the refusal. Any other answer breaks off: it must not look like a whole one."""
        if self.media_type != EVENT_STREAM:
            log.warning("an answer broke off", error=refusal.sentence)
            return
        last = event("refused", {"status": refusal.title, "error": refusal.sentence})
        with suppress(TimeoutError):  # the client does not read it
            async with asyncio.timeout(LAST):
                await send({"type": "http.response.body", "body": last, "more_body": False})


async def answer(
    pieces: AsyncGenerator[bytes, None],
    *,
    media_type: str,
    headers: Mapping[str, str] | None = None,
    large: Callable[..., Stream] = Stream,
) -> Response:
    """A small body as a whole, a large one as the stream that `large` makes. What fails before that is raised.

    An empty piece makes it a large one: much was read that is not in the body.
    """
    head = bytearray()
    async for piece in pieces:
        head += piece
        if len(head) > WHOLE or not piece:
            return large(_joined(bytes(head), pieces), media_type=media_type, headers=headers or {})
    return Response(bytes(head), media_type=media_type, headers=headers)


async def _joined(head: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield head
    del head
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        if len(waiting) >= PIECE:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


def event(name: str, data: Mapping[str, Any], *, event_id: str = "") -> bytes:
    """One event; without an id the client keeps the last one. ASCII only: clients disagree about the ends of lines."""
    ident = f"id: {event_id}\n" if event_id else ""
    return f"event: {name}\n{ident}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def takes_gzip(encodings: str) -> bool:
    """Whether a client with this `Accept-Encoding` takes gzip: with `gzip;q=0` it does not."""
    weights = {
        name.strip(): weight for name, _, weight in (part.partition(";") for part in encodings.lower().split(","))
    }
    return "gzip" in weights and not _NO_GZIP.fullmatch(weights["gzip"])


def zipped(answer: Response, encodings: str) -> Response:
    """The answer, compressed if it is sent as a whole, and `Accept-Encoding` says that the client takes gzip."""
    if isinstance(answer, StreamingResponse) or len(answer.body) not in ZIPPED or not takes_gzip(encodings):
        return answer
    answer.body = gzip.compress(bytes(answer.body), _LEVEL, mtime=0)
    answer.headers["Content-Encoding"] = "gzip"
    answer.headers["Vary"] = "Accept-Encoding"
    answer.headers["Content-Length"] = str(len(answer.body))
    return answer
