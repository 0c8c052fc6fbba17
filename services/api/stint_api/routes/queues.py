"""The routes under /v1/api/queue. Every caller of them has shown a valid token."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from stint.core.errors import InvalidQueueNameError, InvalidTokenError
from stint.core.names.ids import normalise_queue_name, queue_name
from stint.core.view import rfc3339
from stint.vault.actions import READ
from stint.vault.policies import MARK
from stint_api.auth import Identity
from stint_api.errors import JsonAnswer
from stint_api.read.queues import Queue, parse_reason
from stint_api.routes import documents
from stint_api.routes.models.fleet import QueueDetailBody, QueueListBody
from stint_api.routes.parameters import Caller, OnlyIfTrue, ServicesOf
from stint_api.routes.responses import errors, json_body
from stint_api.services import Services
from stint_api.submit.body import read_body
from stint_api.web.streaming import zipped

PATH: Final = "/v1/api/queue"
_REASON: Final = {"type": "string", "maxLength": 1000, "description": "Why, for all who see the queue."}
_BODY: Final = json_body(
    {
        "type": "object",
        "properties": {"reason": _REASON},
        "examples": [{"reason": "The database is being moved."}],
    }
)

router = APIRouter(prefix=PATH, tags=["queues"], responses=errors(400, 403, 429, 500, 503))


async def name(
    qname: Annotated[
        str, Path(description=f"The queue's name, or `{MARK}` and its token for a name that a path cannot contain.")
    ],
) -> str:
    """The name that the path means, lower-cased. A path has no empty name, and none that ends in a slash."""
    if not qname.startswith(MARK):
        return normalise_queue_name(qname)
    try:
        return queue_name(qname.removeprefix(MARK))
    except InvalidTokenError:
        raise InvalidQueueNameError(f"What follows `{MARK}` is not the token of a queue's name.") from None


QueueName = Annotated[str, Depends(name)]


@router.get("", response_model=QueueListBody)
async def list_queues(services: ServicesOf, request: Request, caller: Caller) -> Response:
    """The queues that the caller may read: those with jobs that can be seen, and those that are paused."""
    found = await services.queues.all(caller)
    body = {"data": found, "now": rfc3339(services.now()), "as_of": rfc3339(services.index.as_of)}
    whole = Response(documents.whole(body) + b"\n", media_type=JsonAnswer.content_type)
    return zipped(whole, request.headers.get("accept-encoding", ""))


@router.post("/{qname:path}/pause", response_model=QueueDetailBody, openapi_extra=_BODY)
async def pause(request: Request, services: ServicesOf, caller: Caller, qname: QueueName) -> Response:
    """Pause a queue: once this is answered, none of its jobs can start that had not been claimed before."""
    with services.request_bytes.share(caller.caller) as share:
        reason = parse_reason(await read_body(request, share))
    await services.pausing.pause(caller, qname, reason)
    return await _changed(services, caller, qname)


@router.post("/{qname:path}/resume", response_model=QueueDetailBody)
async def resume(services: ServicesOf, caller: Caller, qname: QueueName) -> Response:
    """Resume a queue: its next job starts."""
    await services.pausing.resume(caller, qname)
    return await _changed(services, caller, qname)


@router.get("/{qname:path}", response_model=QueueDetailBody)
async def get_queue(
    services: ServicesOf,
    caller: Caller,
    qname: QueueName,
    last_hour: Annotated[OnlyIfTrue, Query(description="`true` adds the last hour, minute by minute.")] = False,
) -> Response:
    """A queue, and which jobs wait in it. A queue without jobs has no figures."""
    await services.auth.require(caller, READ, qname)
    hour = {"last_hour": await services.queues.last_hour(qname)} if last_hour else {}
    return _answer(services, await services.queues.one(qname) | hour)


async def _changed(services: Services, caller: Identity, qname: str) -> Response:
    """The queue, for somebody who changed it and may not be allowed to read it."""
    readable = await services.auth.permitted(caller, READ, [qname])
    return _answer(services, await (services.queues.one if readable else services.queues.without_jobs)(qname))


def _answer(services: Services, queue: Queue) -> Response:
    return JsonAnswer({**queue, "now": rfc3339(services.now())})
