"""The stream of all jobs' changes."""

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from stint.vault.actions import READ
from stint_api.read.listing.feed import LiveChanges, Mark
from stint_api.routes import documents
from stint_api.routes.answers import live_stream
from stint_api.routes.parameters import Caller, ChangesQuery, LastEventId, ServicesOf
from stint_api.routes.responses import Responses, errors, sse

PATH: Final = "/v1/api/events"

_EVENTS: Final = """\
event: hello
id: 20250312205857412-17
data: {"release":"0.1.0","resumed":false}

event: gone
id: 20250312205857412-18
data: {"_id":"65f0c2a19b3e4d5f6a7b8c9d","qname":"deploys"}

"""
_STREAM: Final[Responses] = sse(_EVENTS, "hello", "job", "gone", "refused")

router = APIRouter(prefix=PATH, tags=["jobs"], responses=errors(400, 403, 429, 500, 503))


@router.get("", response_class=Response, responses=_STREAM)
async def changes(
    services: ServicesOf, caller: Caller, query: Annotated[ChangesQuery, Query()], last_event_id: LastEventId = ""
) -> Response:
    """Changes of the jobs that the caller may read, as Server-Sent Events: `hello`, `job`, `gone` (or `refused`)."""
    qnames = () if query.qname is None else (query.qname,)
    await services.auth.require(caller, READ, *qnames)
    live = LiveChanges(
        services.index.feed,
        Mark.parse(last_event_id),
        query.interest,
        readable=partial(services.lists.readable, caller),
        render=documents.fields,
    )
    return live_stream(services, caller, live.events, *qnames)
