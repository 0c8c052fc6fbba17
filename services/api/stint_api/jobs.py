"""The routes under /v1/api/job. Whoever gets here has shown a good token."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from stint.eventlog import OutputLog
from stint.job import Job
from stint.subjects import queue_token
from stint.view import JobView, view
from stint_api.answers import JsonAnswer
from stint_api.auth import Authenticator, Identity
from stint_api.body import parse_submission, read_body
from stint_api.commands import Jobs
from stint_api.index import ListIndex
from stint_api.live import LiveJob, Position
from stint_api.output import MAX_BYTES, Text
from stint_api.query import parse_query
from stint_api.schemas import DeletedBody, JobBody, KillBody, ListBody, SubmitBody, SubmittedBody, responses
from stint_api.sse import EventStream
from stint_api.submit import Submitter

PATH: Final = "/v1/api/job"
_ONE: Final = f"{PATH}/{{job_id}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRoutes:
    """The handlers.

    Attributes:
        closing: set when the server wants to end: live streams then end too.
        stdout_only: `output` is stdout only, as GoStint has it.
    """

    submitter: Submitter
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
        add(f"{_ONE}/events", self.events, methods=["GET"], responses=responses(None, 400, 403, 404, 503))
        return router

    async def submit(self, request: Request) -> Response:
        """Submit a job."""
        submission = parse_submission(await read_body(request))
        await self.auth.require(_caller(request), "create", submission.qname)
        accepted = await self.submitter.submit(_caller(request), submission)
        return JsonAnswer({"_id": accepted.job_id, "status": "queued", "qname": accepted.qname})

    async def get(self, request: Request, job_id: str) -> Response:
        """A job with its output so far."""
        job = await self.jobs.find(_caller(request), "read", job_id)
        text = await Text().fill(self.output.read(job.token, job.job_id))
        return JsonAnswer(self._body(view(job), text))

    async def list_jobs(self, request: Request) -> Response:
        """The jobs that can be seen, the last submitted first. May lag by a second."""
        query = parse_query(request.query_params)
        found = [job for job in self.index.jobs() if query.wants(job)]
        readable = await self.auth.allowed(_caller(request), "read", {job.qname for job in found})
        found = [job for job in found if job.qname in readable]
        page = found[query.skip : query.skip + query.limit]
        data = await self._with_output(page) if query.output else [self._body(job, Text()) for job in page]
        return JsonAnswer({"data": data, "skip": query.skip, "limit": query.limit, "total": len(found)})

    async def delete(self, request: Request, job_id: str) -> Response:
        """Delete a job that does not run."""
        await self.jobs.delete(_caller(request), job_id)
        return JsonAnswer({"_id": job_id})

    async def kill(self, request: Request, job_id: str) -> Response:
        """Ask for a job's end."""
        job = view(await self.jobs.kill(_caller(request), job_id))
        fields = {"container_id": job.container_id, "status": job.status, "kill_requested": True}
        return JsonAnswer({"_id": job_id, **fields})

    async def events(self, request: Request, job_id: str) -> Response:
        """A job's facts and output as Server-Sent Events: `fact`, `output`, and at last `end`."""
        job = await self.jobs.find(_caller(request), "read", job_id)
        position = Position.parse(request.headers.get("last-event-id", ""))
        live = LiveJob(self.jobs.log, self.output, job, position, render=_final)
        return EventStream(live.events(self.closing))

    async def _with_output(self, page: list[JobView]) -> list[dict[str, Any]]:
        """One bound on memory for the whole page."""
        left, bodies = MAX_BYTES, []
        for job in page:
            text = await Text(budget=left).fill(self.output.read(_token(job), job.job_id))
            left -= text.size
            bodies.append(self._body(job, text))
        return bodies

    def _body(self, job: JobView, text: Text) -> dict[str, Any]:
        shown = text.stdout if self.stdout_only else text.both
        return {
            **_shown(job),
            "output_bytes": max(job.output_bytes, text.size),
            "output_truncated": text.truncated,
            # Where nothing ran, what went wrong stands in the output's place.
            "output": shown or ("" if text.size else job.error),
            "stdout": text.stdout,
            "stderr": text.stderr,
        }


def _caller(request: Request) -> Identity:
    caller: Identity = request.state.caller
    return caller


def _shown(job: JobView) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(job)
    del fields["sequence"]
    return fields


def _final(job: Job) -> Mapping[str, Any]:
    return _shown(view(job))


def _token(job: JobView) -> str:
    return queue_token(job.qname)
