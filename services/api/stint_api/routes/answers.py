"""How routes answer: with streams, and large answers, that end when their caller may not read any more."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

import structlog
from starlette.datastructures import QueryParams
from starlette.responses import Response

from stint.core.errors import StintError, VaultUnavailableError
from stint.core.job import Job
from stint.core.output.lines import start_of
from stint.core.view import JobView
from stint.process.waiting import InterruptedByEventError, any_of, unless
from stint.vault.actions import READ
from stint_api.auth import CACHE_SECONDS, Identity
from stint_api.errors import JsonAnswer, RefusalError, refusal_of
from stint_api.read.job.output import Snapshot, seen_back, stream_of
from stint_api.read.standing import NO_STANDING, Standing
from stint_api.routes import documents
from stint_api.services import Services
from stint_api.web.streaming import EVENT_STREAM, WHOLE, Stream, answer, nobody_refuses

log = structlog.get_logger()

Check = Callable[[], Awaitable[None]]
"""Returns if the caller might begin this now, else raises; see `Authenticator.check_again`."""

PERIOD: Final = CACHE_SECONDS
"""Seconds between two checks: a revoked token is good for a GET as long."""

NOT_FOR_PAGES: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""A browser must not run or show a job's output as a script or a page of this host."""

Events = Callable[[asyncio.Event], AsyncGenerator[bytes, None]]
"""Gives encoded events until the `asyncio.Event` is set that it is called with."""


async def refusal(check: Check, closing: asyncio.Event) -> RefusalError:
    """Check until the caller is refused, and return why. Once the server is about to end, nothing is checked any more.

    While Vault is unavailable the stream continues. If this fails, the stream ends: nobody watches it any more.
    """
    while not await any_of(closing, within=PERIOD):
        try:
            await unless(closing, check())
        except InterruptedByEventError:
            break
        except VaultUnavailableError as error:
            log.debug("a stream's caller cannot be checked, the stream continues", error=error.sentence)
        except StintError as error:
            return refusal_of(error)
    return await nobody_refuses()


def large_stream(services: Services, caller: Identity, *qnames: str) -> Callable[..., Stream]:
    """Makes a stream: one of those that a caller may have open, and for as long as it may read these queues."""
    check = partial(services.auth.check_again, caller, READ, *qnames)

    def stream(pieces: AsyncGenerator[bytes, None], **options: Any) -> Stream:
        closed = services.streams.enter(caller.caller)
        return Stream(pieces, refused=partial(refusal, check, services.closing), closed=closed, **options)

    return stream


def live_stream(services: Services, caller: Identity, events: Events, *qnames: str) -> Stream:
    """Sends events as they come, as such a stream."""
    # The second header keeps proxies from collecting events before they pass them on.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream = large_stream(services, caller, *qnames)
    return stream(events(services.closing), media_type=EVENT_STREAM, headers=headers)


async def json_answer(
    pieces: AsyncGenerator[bytes, None], large: Callable[..., Stream], headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON document in pieces, as a line."""
    return await answer(documents.line(pieces), media_type=JsonAnswer.content_type, large=large, headers=headers)


def next_page(query: QueryParams, cursor: str) -> dict[str, str]:
    """The header that leads to the next page of a list, by a cursor in place of `skip`; none if there is no cursor."""
    kept = [(name, value) for name, value in query.multi_items() if name not in {"skip", "cursor"}]
    return {"Link": f'<?{urlencode([*kept, ("cursor", cursor)])}>; rel="next"'} if cursor else {}


async def standing_of(services: Services, job: Job, shown: JobView) -> Standing:
    """Where one job stands, and whether its lost runner came back."""
    standing = (await services.standings.of([shown])).get(shown.job_id, NO_STANDING)
    return standing._replace(back_since=await seen_back(services.output, job))


async def raw(output: Snapshot, stream: str | None, line: int) -> AsyncGenerator[bytes, None]:
    """One stream's bytes, or all, from a line of the first chunk on. What is left out counts for the size, too."""
    left_out = 0
    async for chunk in output.chunks():
        data, line = chunk.data[start_of(chunk, line) if line else 0 :], 0
        if stream is None or stream == stream_of(chunk):
            yield data
        else:
            left_out += len(chunk.data)
            if left_out > WHOLE:
                yield b""
