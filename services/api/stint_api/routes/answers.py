"""How the routes of jobs answer: with streams, and large answers, that end when their caller may not read any more."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.responses import Response

from stint.core.job import Job
from stint.core.output.lines import start_of
from stint.core.view import JobView
from stint.vault.actions import READ
from stint_api.auth import Identity
from stint_api.errors import JsonAnswer
from stint_api.middleware.watch import unless_refused, while_allowed
from stint_api.read.job.output import Snapshot, seen_back, stream_of
from stint_api.read.standing import NO_STANDING, Standing
from stint_api.routes import documents
from stint_api.services import Services
from stint_api.web.streaming import WHOLE, Stream, answer, event_stream

NOT_FOR_PAGES: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""A browser must not run or show a job's output as a script or a page of this host."""

Events = Callable[..., AsyncGenerator[bytes, None]]
"""Gives encoded events until one of the `asyncio.Event`s is set that it is called with."""


def large_stream(services: Services, caller: Identity, *qnames: str) -> Callable[..., Stream]:
    """Makes the stream of a large answer: one of those that a caller may have open, and for as long as it may read."""
    check = partial(services.auth.check_again, caller, READ, *qnames)

    def stream(pieces: AsyncGenerator[bytes, None], **options: Any) -> Stream:
        closed, refused = services.streams.enter(caller.caller), asyncio.Event()
        watched = unless_refused(pieces, check, services.closing, refused)
        return Stream(watched, refused=refused, closed=closed, **options)

    return stream


def live_stream(services: Services, caller: Identity, events: Events, *qnames: str) -> Stream:
    """Sends events as they come: one of the streams that a caller may have open, and for as long as it may read."""
    check = partial(services.auth.check_again, caller, READ, *qnames)
    refused = asyncio.Event()
    told = while_allowed(events(refused, services.closing), check, services.closing, refused)
    return event_stream(told, refused, services.streams.enter(caller.caller))


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
    """One stream's bytes, or all, from a line on that begins in the first chunk.

    Much that is left out makes it a large answer, because it is read nevertheless.
    """
    left_out = 0
    async for chunk in output.chunks():
        data, line = chunk.data[start_of(chunk, line) if line else 0 :], 0
        if stream is None or stream == stream_of(chunk):
            yield data
        else:
            left_out += len(chunk.data)
            if left_out > WHOLE:
                yield b""
