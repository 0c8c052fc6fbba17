"""The routes under /v1/api/queue and /v1/api/runner. Every caller of them has shown a valid token."""

from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from stint.core.audit.operations import DrainRequested
from stint.core.errors import InvalidQueueNameError, InvalidTokenError
from stint.core.job import State
from stint.core.names.ids import normalise_queue_name, queue_name
from stint.core.view import NEVER, parse_time, rfc3339
from stint.vault.actions import DRAIN, READ
from stint.vault.policies import MARK
from stint_api.auth import Identity
from stint_api.errors import JsonAnswer, RefusalError
from stint_api.read.listing.query import Page, Wanted
from stint_api.read.queues import Queue, parse_reason
from stint_api.read.runners import NUMBERS, WORDS, number_of
from stint_api.routes import documents
from stint_api.routes.models.fleet import DrainedBody, QueueDetailBody, QueueListBody, RunnerBody, RunnersBody
from stint_api.routes.parameters import Caller, OnlyIfTrue, ServicesOf
from stint_api.routes.responses import OF_BODY, errors, json_body
from stint_api.services import Services
from stint_api.submit.body import read_body
from stint_api.web.streaming import zipped

QUEUES: Final = "/v1/api/queue"
_REASON: Final = {"type": "string", "maxLength": 1000, "description": "Why, for all who see the queue."}
_BODY: Final = json_body(
    {"type": "object", "properties": {"reason": _REASON}, "examples": [{"reason": "The database is being moved."}]}
)
queues = APIRouter(prefix=QUEUES, tags=["queues"], responses=errors(400, 403, 429, 500, 503))

RUNNERS: Final = "/v1/api/runner"
RUNNING: Final = 1000
"""Jobs that are told at most: the last submitted."""
RunnerName = Annotated[str, Path(max_length=128, description="The runner's name.")]
runners = APIRouter(prefix=RUNNERS, tags=["runners"], responses=errors(400, 403, 429, 500, 503))


async def queue_named(
    qname: Annotated[
        str, Path(description=f"The queue's name, or `{MARK}` and its token for a name that a path cannot contain.")
    ],
) -> str:
    """The name that the path means, lower-cased. A path has no empty name, and none that ends in a slash.

    A name may have slashes: a GET further down would take the place of `get_queue` for the names that end like it.
    """
    if not qname.startswith(MARK):
        return normalise_queue_name(qname)
    try:
        return queue_name(qname.removeprefix(MARK))
    except InvalidTokenError:
        raise InvalidQueueNameError(f"What follows `{MARK}` is not the token of a queue's name.") from None


QueueName = Annotated[str, Depends(queue_named)]


@queues.get("", response_model=QueueListBody)
async def list_queues(services: ServicesOf, request: Request, caller: Caller) -> Response:
    """The queues that the caller may read: those with jobs that can be seen, and those that are paused."""
    found = await services.queues.all(caller)
    body = {"data": found, "now": rfc3339(services.now()), "as_of": rfc3339(services.index.as_of)}
    whole = Response(documents.whole(body) + b"\n", media_type=JsonAnswer.content_type)
    return zipped(whole, request.headers.get("accept-encoding", ""))


@queues.post("/{qname:path}/pause", response_model=QueueDetailBody, responses=OF_BODY, openapi_extra=_BODY)
async def pause(request: Request, services: ServicesOf, caller: Caller, qname: QueueName) -> Response:
    """Pause a queue: once this is answered, none of its jobs can start that had not been claimed before."""
    with services.request_bytes.share(caller.caller) as share:
        reason = parse_reason(await read_body(request, share))
    await services.pausing.pause(caller, qname, reason)
    return await _changed(services, caller, qname)


@queues.post("/{qname:path}/resume", response_model=QueueDetailBody)
async def resume(services: ServicesOf, caller: Caller, qname: QueueName) -> Response:
    """Resume a queue: its next job starts."""
    await services.pausing.resume(caller, qname)
    return await _changed(services, caller, qname)


@queues.get("/{qname:path}", response_model=QueueDetailBody)
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


@runners.get("")
async def list_runners(services: ServicesOf, caller: Caller) -> RunnersBody:
    """The runners that reported within a day and did not leave in order: those that are alive first."""
    reports = sorted(await services.runners.all(), key=lambda report: (not report["alive"], report["runner"]))
    running = await _running(services, caller)
    data = [_body(report, running[report["runner"]]) for report in reports]
    now = rfc3339(services.now())
    return RunnersBody(data=data, now=now, as_of=now)


@runners.post("/{runner}/drain", status_code=HTTPStatus.ACCEPTED, responses=errors(404))
async def drain(services: ServicesOf, caller: Caller, runner: RunnerName) -> DrainedBody:
    """Ask a runner to take no more jobs. Its process ends when the last one has ended; the list shows that it heard."""
    await services.auth.require(caller, DRAIN, runner)
    if runner not in {report["runner"] for report in await services.runners.read()}:
        raise RefusalError(HTTPStatus.NOT_FOUND, "No runner of this name is alive.")
    asked = DrainRequested(**caller.stamp(services.now()), runner=runner)
    await services.operations.record(asked, services.new_job_id())  # first: nothing is done that is not recorded
    await services.runners.drain(runner, caller.name)
    return DrainedBody(runner=runner, asked=True)


async def _running(services: Services, caller: Identity) -> Mapping[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for status in (State.RUNNING, State.STOPPING):
        page = await services.lists.find(caller, Page(wanted=Wanted(status=status), limit=RUNNING))
        for job in page.jobs:
            found[job.node_uuid].append(job.job_id)
    return found


def _body(report: Mapping[str, Any], running: list[str]) -> RunnerBody:
    """Anybody who may report can write anything: what is not of the right kind is left out."""
    engine = {name: int(number_of(report[name])) for name in NUMBERS if name in report}
    words = {name: str(report[name]) for name in WORDS if name in report}
    served = report.get("queues")
    return RunnerBody(
        runner=str(report["runner"]),
        alive=report["alive"],
        last_seen=report["last_seen"],
        draining=report.get("draining") is True,
        drained_by=str(report.get("drained_by") or ""),
        capacity=int(number_of(report.get("capacity"))),
        kill_grace=number_of(report.get("kill_grace")),
        running=running,
        queues=[str(pattern) for pattern in served] if isinstance(served, list) else [],
        engine=engine | words,
        version=str(report.get("version") or ""),
        started=_moment(report.get("started")),
    )


def _moment(value: object) -> str:
    try:
        return rfc3339(parse_time(str(value)))
    except (ValueError, OverflowError):
        return NEVER
