"""The routes under /v1/api/job. Whoever gets here has shown a good token."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from stint.core.errors import UndecodableError
from stint.core.subjects import queue_name, queue_token
from stint.core.view import JobView, view
from stint.ports import OutputLog
from stint_api.auth.authenticator import READ, SUBMIT, Authenticator, Identity
from stint_api.errors import JsonAnswer
from stint_api.middleware.watch import while_allowed
from stint_api.read.commands import Jobs
from stint_api.read.index import ListIndex
from stint_api.read.live import LiveJob, Position
from stint_api.read.output import STREAMS, Snapshot, stream_of
from stint_api.routes import documents
from stint_api.routes.query import parse_query
from stint_api.routes.schemas import (
    DeletedBody,
    JobBody,
    KillBody,
    ListBody,
    ReleasedBody,
    SubmitBody,
    SubmittedBody,
    responses,
)
from stint_api.submit.body import parse_submission, read_body
from stint_api.submit.idempotency import read_key
from stint_api.submit.submitter import Submitter
from stint_api.web.bounds import CountedStream, OpenStreams, RequestBytes
from stint_api.web.streaming import answer

PATH: Final = "/v1/api/job"
_ONE: Final = f"{PATH}/{{job_id}}"
_BYTES: Final = "application/octet-stream"
"""Not text: output is in no encoding that anybody could name, and may be an archive."""
_NOT_FOR_PAGES: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""What a job wrote must not become a script or a page of this host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRoutes:
    """The handlers.

    Attributes:
        closing: set when the server wants to end: live streams then end too.
        stdout_only: `output` is stdout only, as GoStint has it.
    """

    submitter: Submitter
    request_bytes: RequestBytes
    streams: OpenStreams
    jobs: Jobs
    index: ListIndex
    output: OutputLog
    auth: Authenticator
    closing: asyncio.Event
    stdout_only: bool

    def router(self) -> APIRouter:
        """All of them."""
        router = APIRouter(tags=["jobs"])
        body = {"requestBody": {"content": {"application/json": {"schema": SubmitBody.model_json_schema()}}}}
        add = router.add_api_route
        add(
            PATH,
            self.submit,
            methods=["POST"],
            responses=responses(SubmittedBody, 400, 403, 413, 500, 503),
            openapi_extra=body,
        )
        add(PATH, self.list_jobs, methods=["GET"], responses=responses(ListBody, 400, 403, 503))
        add(_ONE, self.get, methods=["GET"], responses=responses(JobBody, 400, 403, 404, 503))
        add(_ONE, self.delete, methods=["DELETE"], responses=responses(DeletedBody, 400, 403, 404, 503))
        add(f"{PATH}/kill/{{job_id}}", self.kill, methods=["POST"], responses=responses(KillBody, 400, 403, 404, 503))
        add(f"{_ONE}/release", self.release, methods=["POST"], responses=responses(ReleasedBody, 400, 403, 404, 503))
        add(f"{_ONE}/output", self.get_output, methods=["GET"], responses=responses(None, 400, 403, 404, 503))
        add(f"{_ONE}/events", self.events, methods=["GET"], responses=responses(None, 400, 403, 404, 503))
        return router

    async def submit(self, request: Request) -> Response:
        """Submit a job."""
        key = read_key(request.headers)
        with self.request_bytes.share() as share:
            submission = parse_submission(await read_body(request, share))
            await self.auth.require(_caller(request), SUBMIT, submission.qname)
            accepted = await self.submitter.submit(_caller(request), submission, key)
        return JsonAnswer({"_id": accepted.job_id, "status": "queued", "qname": accepted.qname})

    async def get(self, request: Request, job_id: str) -> Response:
        """A job with its output so far; `?output=false` leaves the output out."""
        job = await self.jobs.find(_caller(request), job_id)
        output = await Snapshot.take(self.output, job.token, job.job_id)
        if request.query_params.get("output") == "false":
            shown = documents.as_stored(view(job), output.size)
            return await _json(documents.one(shown, None, stdout_only=self.stdout_only))
        return await _json(documents.one(view(job), output, stdout_only=self.stdout_only))

    async def get_output(self, request: Request, job_id: str) -> Response:
        """A job's output so far, as the bytes that it wrote; `?stream=stdout` or `stderr` gives one of the two."""
        job = await self.jobs.find(_caller(request), job_id)
        stream = request.query_params.get("stream")
        if stream is not None and stream not in STREAMS:
            raise UndecodableError(f"stream must be one of {', '.join(STREAMS)}")
        output = await Snapshot.take(self.output, job.token, job.job_id)
        return await answer(_raw(output, stream), media_type=_BYTES, headers=_NOT_FOR_PAGES)

    async def list_jobs(self, request: Request) -> Response:
        """The jobs that can be seen, the last submitted first. May lag by a second."""
        query = parse_query(request.query_params)
        found = [job for job in self.index.jobs() if query.wants(job)]
        readable = await self.auth.allowed(_caller(request), READ, {job.qname for job in found})
        found = [job for job in found if job.qname in readable]
        page = found[query.skip : query.skip + query.limit]
        rest = {"skip": query.skip, "limit": query.limit, "total": len(found)}
        take = self._take if query.output else _nothing
        return await _json(documents.several(page, take, rest, stdout_only=self.stdout_only))

    async def delete(self, request: Request, job_id: str) -> Response:
        """Delete a job that does not run."""
        await self.jobs.delete(_caller(request), job_id)
        return JsonAnswer({"_id": job_id})

    async def kill(self, request: Request, job_id: str) -> Response:
        """Ask for a job's end."""
        before = await self.jobs.kill(_caller(request), job_id)
        requested = before.kill_requested or not before.terminal
        fields = {"container_id": view(before).container_id, "status": before.state, "kill_requested": requested}
        return JsonAnswer({"_id": job_id, **fields})

    async def release(self, request: Request, job_id: str) -> Response:
        """Give up the lost runner of a held job: the job ends, and its queue goes on."""
        job = await self.jobs.release(_caller(request), job_id)
        return JsonAnswer({"_id": job_id, "status": job.state.value, "released": True})

    async def events(self, request: Request, job_id: str) -> Response:
        """A job's facts and output as Server-Sent Events: `fact`, `output`, and at last `end` (or `refused`)."""
        job = await self.jobs.find(_caller(request), job_id)
        position = Position.parse(request.headers.get("last-event-id", ""))
        live = LiveJob(self.jobs.log, self.output, job, position, render=documents.last_seen)
        check = partial(self.auth.check_again, _caller(request), READ, queue_name(job.token))
        events = while_allowed(live.events, check, self.closing)
        return CountedStream(events, self.streams, _caller(request).caller)

    async def _take(self, job: JobView) -> Snapshot:
        return await Snapshot.take(self.output, queue_token(job.qname), job.job_id)


async def _nothing(_job: JobView) -> None:
    return None


async def _json(pieces: AsyncGenerator[bytes, None]) -> Response:
    return await answer(documents.line(pieces), media_type=JsonAnswer.media_type)


async def _raw(output: Snapshot, stream: str | None) -> AsyncGenerator[bytes, None]:
    async for chunk in output.chunks():
        if stream is None or stream == stream_of(chunk):
            yield chunk.data


def _caller(request: Request) -> Identity:
    caller: Identity = request.state.caller
    return caller
