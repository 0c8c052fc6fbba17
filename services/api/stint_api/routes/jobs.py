"""The routes under /v1/api/job and /v1/api/events. Every caller of them has shown a valid token."""

import asyncio
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from stint.core.names.ids import queue_name, queue_token
from stint.core.view import JobView, rfc3339, view
from stint.vault.actions import READ, SUBMIT
from stint_api.errors import JsonAnswer
from stint_api.read.job.lines import Position
from stint_api.read.job.live import LiveJob
from stint_api.read.job.output import Snapshot
from stint_api.read.listing.feed import LiveChanges, Mark
from stint_api.routes import documents
from stint_api.routes.answers import NOT_FOR_PAGES, json_answer, large_stream, live_stream, next_page, raw, standing_of
from stint_api.routes.models.jobs import (
    DeletedBody,
    JobBody,
    KillBody,
    ListBody,
    ReleasedBody,
    RerunBody,
    SubmitBody,
    SubmittedBody,
)
from stint_api.routes.parameters import (
    Caller,
    ChangesQuery,
    IdempotencyKey,
    JobId,
    JobQuery,
    LastEventId,
    LinesQuery,
    OutputQuery,
    ServicesOf,
    UnlessFalse,
    cursor,
)
from stint_api.routes.responses import NEXT_PAGE, OF_BODY, Responses, content, errors, json_body, sse
from stint_api.submit.body import again, parse_rerun, parse_submission, read_body
from stint_api.web.streaming import answer, zipped

PATH: Final = "/v1/api/job"
CHANGES: Final = "/v1/api/events"
BYTES: Final = "application/octet-stream"
"""Not text: output is in no encoding that anybody could name, and may be an archive."""

router = APIRouter(prefix=PATH, tags=["jobs"], responses=errors(400, 403, 429, 500, 503))
of_all = APIRouter(prefix=CHANGES, tags=["jobs"], responses=errors(400, 403, 429, 500, 503))
_ONE: Final[Responses] = errors(404)
_BODY: Final = json_body(SubmitBody.model_json_schema(), required=True)
_RERUN: Final = json_body(RerunBody.model_json_schema(), required=True)
_OUTPUT: Final[Responses] = content(BYTES, "hello\n", type="string", format="binary")
_EVENTS: Final = """\
event: fact
id: 17-0-0
data: {"kind":"submitted","at":"2025-03-12T20:58:57.412Z","sequence":17,"status":"queued",\
"by":"token-stint-client","by_entity":"","by_accessor":"iT2fxqiZQyQVWDSWUvGwHV4l"}

event: output
id: 19-4-1
data: {"number":1,"offset":0,"stream":"stdout","data":"aGVsbG8K",\
"at":"2025-03-12T20:58:57.951Z","line":1,"continues":false}

"""
_CHANGES: Final = """\
event: hello
id: 20250312205857412-17
data: {"release":"0.1.0","resumed":false}

event: gone
id: 20250312205857412-18
data: {"_id":"65f0c2a19b3e4d5f6a7b8c9d","qname":"deploys"}

"""
_STREAM: Final[Responses] = sse(_EVENTS, "fact", "phase", "output", "end", "refused")


@router.post("", response_model=SubmittedBody, responses=OF_BODY | errors(409, 410), openapi_extra=_BODY)
async def submit(request: Request, services: ServicesOf, caller: Caller, key: IdempotencyKey) -> Response:
    """Submit a job."""
    # The body is read here, not by FastAPI: as JSON whatever its Content-Type, and within bounds until it is stored.
    with services.request_bytes.share(caller.caller) as share:
        submission = parse_submission(await read_body(request, share))
        await services.auth.require(caller, SUBMIT, submission.qname)
        job_id = await services.submitter.submit(caller, submission, key)
    return JsonAnswer({"_id": job_id, "status": "queued", "qname": submission.qname})


@router.get("", response_model=ListBody, responses={200: {"headers": NEXT_PAGE}})
async def list_jobs(
    services: ServicesOf, request: Request, caller: Caller, query: Annotated[JobQuery, Query()]
) -> Response:
    """The jobs that the caller may read, newest first. The list may lag by a second."""
    # A page takes the event loop as long as a job, but in two steps. Cut into four, it holds up others for less.
    await _give_way()
    found = await services.lists.find(caller, query.page)
    rest: dict[str, Any] = {"skip": query.skip, "limit": query.limit, "total": found.total}
    if found.counts is not None:
        rest["counts"] = found.counts
    rest |= {"now": rfc3339(services.now()), "as_of": rfc3339(services.index.as_of)}

    async def take(shown: JobView) -> Snapshot:
        recorded = documents.recorded(await services.log.load(shown.job_id, at_least=shown.sequence))
        place = (queue_token(shown.qname), shown.job_id)
        return await Snapshot.take(services.output, *place, recorded=recorded, lenient=True)

    standings = await services.standings.of(found.jobs)
    document = documents.several(
        found.jobs, take if query.output else None, rest, stdout_only=services.compat, standings=standings
    )
    large = large_stream(services, caller, *{job.qname for job in found.jobs})
    whole = await json_answer(document, large, next_page(request.query_params, cursor(found.next)))
    await _give_way()
    return zipped(whole, request.headers.get("accept-encoding", ""))


@router.get("/{job_id}", response_model=JobBody, responses=_ONE)
async def get(
    services: ServicesOf,
    caller: Caller,
    job_id: JobId,
    output: Annotated[UnlessFalse, Query(description="`false` omits the output.")] = True,
) -> Response:
    """A job and its output so far; `?output=false` omits the output."""
    job = await services.jobs.find(caller, job_id)
    stored = await Snapshot.take(services.output, job.token, job.job_id, recorded=documents.recorded(job))
    shown = view(job) if output else documents.as_stored(view(job), stored.size, whole=stored.whole)
    standing = await standing_of(services, job, shown)
    document = documents.one(shown, stored if output else None, stdout_only=services.compat, standing=standing)
    return await json_answer(document, large_stream(services, caller, queue_name(job.token)))


@router.delete("/{job_id}", responses=_ONE)
async def delete(services: ServicesOf, caller: Caller, job_id: JobId) -> DeletedBody:
    """Delete a job that is not running."""
    await services.jobs.delete(caller, job_id)
    return DeletedBody(_id=job_id)


@router.post("/kill/{job_id}", responses=_ONE)
async def kill(services: ServicesOf, caller: Caller, job_id: JobId) -> KillBody:
    """Kill a job: a queued one ends at once, a running one is stopped."""
    before = await services.jobs.kill(caller, job_id)
    requested = before.kill_requested or not before.terminal
    shown = view(before)
    return KillBody(_id=job_id, container_id=shown.container_id, status=shown.status, kill_requested=requested)


@router.post("/{job_id}/release", responses=_ONE)
async def release(services: ServicesOf, caller: Caller, job_id: JobId) -> ReleasedBody:
    """Give up a held job whose runner was lost: the job ends, and its queue continues."""
    before = await services.jobs.release(caller, job_id)
    return ReleasedBody(_id=job_id, status=before.state, released=True)


@router.post(
    "/{job_id}/rerun",
    response_model=SubmittedBody,
    responses=_ONE | OF_BODY | errors(409, 410),
    openapi_extra=_RERUN,
)
async def rerun(request: Request, services: ServicesOf, caller: Caller, job_id: JobId, key: IdempotencyKey) -> Response:
    """Run a job again that is over: the same sealed payload, in the same queue, as a new job."""
    job = await services.jobs.find(caller, job_id)
    with services.request_bytes.share(caller.caller) as share:
        wanted = parse_rerun(await read_body(request, share))
        qname = queue_name(job.token)
        await services.auth.require(caller, SUBMIT, qname)
        submission = again(job, wanted, services.kept)
        share.take(submission.size)
        new_id = await services.submitter.submit(caller, submission, key)
    return JsonAnswer({"_id": new_id, "status": "queued", "qname": qname})


@router.get("/{job_id}/output", response_class=Response, responses=_ONE | _OUTPUT)
async def get_output(
    services: ServicesOf, caller: Caller, job_id: JobId, query: Annotated[OutputQuery, Query()]
) -> Response:
    """A job's output so far, as the bytes that it wrote: all, one stream, or from a line on."""
    job = await services.jobs.find(caller, job_id)
    position, line = await query.beginning(services.output, job)
    recorded = documents.recorded(job)
    output = await Snapshot.take(services.output, job.token, job.job_id, recorded=recorded, after=position.output)
    large = large_stream(services, caller, queue_name(job.token))
    name = f"{job.job_id}.{query.stream or 'output'}"
    headers = {**NOT_FOR_PAGES, "Content-Disposition": f'attachment; filename="{name}"'}
    return await answer(raw(output, query.stream, line), media_type=BYTES, headers=headers, large=large)


@router.get("/{job_id}/events", response_class=Response, responses=_ONE | _STREAM)
async def events(
    services: ServicesOf,
    caller: Caller,
    job_id: JobId,
    query: Annotated[LinesQuery, Query()],
    last_event_id: LastEventId = "",
) -> Response:
    """A job's events and output as Server-Sent Events: `fact`, `output`, and finally `end` (or `refused`)."""
    job = await services.jobs.find(caller, job_id)
    position = Position.parse(last_event_id)
    if position == Position():
        position, _ = await query.beginning(services.output, job)
    live = LiveJob(services.followed, services.output, services.phases, job, position, render=documents.last_seen)
    return live_stream(services, caller, live.events, queue_name(job.token))


@of_all.get("", response_class=Response, responses=sse(_CHANGES, "hello", "job", "gone", "refused"))
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


async def _give_way() -> None:
    """Let other requests go first, also one whose answer has just arrived: two turns of the loop wake it."""
    for _ in range(2):
        await asyncio.sleep(0)
