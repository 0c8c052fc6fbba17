"""A Stint in memory, for the tests of programs that use `stint.client`."""

import json
import secrets
from collections import Counter
from collections.abc import AsyncIterable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import httpx

from stint.client import Client, SyncClient
from stint.client.rest.api import Api
from stint.core.codec import encode
from stint.core.errors import IllegalCommandError
from stint.core.job import Job
from stint.core.names.ids import queue_name
from stint.core.submission.payload import JobPayload, parse_payload
from stint.testing.fake.jobs import Ending, FakeJobs, name_of, wanted_queue
from stint.testing.fake.streams import FakeFleet, FakeStreams, shown

_API: Final = "/v1/api/"
_LIMIT: Final = 10
_PARAMETERS: Final[Mapping[str, frozenset[str]]] = {
    "job": frozenset({"qname", "status", "counts", "limit", "cursor"}),
    "events": frozenset({"qname", "status"}),
}
"""What it knows of requests for lists and changes."""


def _succeed(_job: JobPayload) -> Ending:
    return Ending()


class FakeStint:
    """Takes jobs from a real `Client`, and ends each as the test says. Nothing runs, and there is no Vault.

    It knows submissions, reruns, keys, kills, deletions, releases, lists and counts by queue and status, output, live
    streams, the changes of all jobs, queues that are paused and resumed, and one runner, `fake`, that can be drained.
    It does not check tokens, policies, images or secrets; its jobs do not wait for each other; anything else is a 404,
    among it audit, lineage and receipts, and other parameters of a list.
    """

    def __init__(self, ending: Callable[[JobPayload], Ending | None] = _succeed) -> None:
        """`ending` says how a job ends, at once; with None it waits until it is killed, or until `end` is called.

        It is asked when the job can start: not while its queue is paused or held, or its runner drains.
        """
        self._jobs = FakeJobs(ending)
        self._fleet = FakeFleet(self._jobs)
        self._streams = FakeStreams(self._jobs)
        self._keys: dict[str, tuple[str, tuple[str, bytes]]] = {}

    @property
    def submitted(self) -> Mapping[str, JobPayload]:
        """The jobs, by id, in the order of their submission."""
        return self._jobs.submitted

    def client(self) -> Client:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer), base_url="http://stint.invalid")
        return Client(Api(http), _Open())

    def sync_client(self) -> SyncClient:
        return SyncClient(self.client())

    async def end(self, job_id: str, ending: Ending) -> None:
        """End a job that waits."""
        await self._jobs.end(job_id, ending)

    async def hold(self, job_id: str) -> None:
        """Lose the runner of a job with `on_lost="hold"`: its queue starts nothing until the job is released."""
        await self._jobs.hold(job_id)

    def come_back(self, job_id: str) -> None:
        """Show a sign of the runner of a held job: the job stays held, and `end` ends it."""
        self._jobs.come_back(job_id)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        try:
            found = await self._found(request) if _is_known(request.url) else None
        except IllegalCommandError as error:
            return httpx.Response(HTTPStatus.BAD_REQUEST, json={"error": error.sentence})
        return found or httpx.Response(HTTPStatus.NOT_FOUND, json={"status": "Not Found.", "error": "not found"})

    async def _found(self, request: httpx.Request) -> httpx.Response | None:
        wanted, found = request.url.params, None
        match request.url.path.removeprefix(_API).split("/"):
            case "job", *asked:
                found = await self._job(request, *asked)
            case "queue", *asked:
                found = await self._queue(request, *asked)
            case "runner", *asked:
                found = await self._runner(*asked)
            case "events", *_:
                found = _raw(self._streams.of_all(wanted, request.headers.get("Last-Event-ID", "")))
        return found

    async def _job(self, request: httpx.Request, *asked: str) -> httpx.Response | None:
        match asked:
            case ():
                return await (self._submit(request) if request.method == "POST" else self._list(request.url.params))
            case ("kill", job_id):
                what = "kill"
            case _:
                job_id, what = asked[0], "".join(asked[1:])
        if job := await self._jobs.load(job_id):
            return await (self._show if request.method == "GET" else self._act)(job, what, request)
        return None

    async def _show(self, job: Job, what: str, request: httpx.Request) -> httpx.Response | None:
        match what:
            case "":
                return _json(**self._streams.one(job))
            case "output":
                stream = request.url.params.get("stream")
                chunks = self._jobs.endings.get(job.job_id, Ending()).chunks()
                return _raw(b"".join(data for name, data in chunks if stream in {None, name}))
            case "events":
                return _raw(self._streams.of_job(job.job_id))
        return None

    async def _act(self, job: Job, what: str, request: httpx.Request) -> httpx.Response | None:
        match what:
            case "kill":
                await self._jobs.kill(job)
            case "release":
                await self._jobs.release(job)
            case "rerun" if not job.terminal:
                raise IllegalCommandError("The job has not ended yet.")
            case "rerun":
                return await self._take(self.submitted[job.job_id], request, rerun_of=job.job_id)
            case "":
                await self._jobs.delete(job)
            case _:
                return None
        return _json(_id=job.job_id, container_id="", status=job.state, kill_requested=not job.terminal)

    async def _submit(self, request: httpx.Request) -> httpx.Response:
        return await self._take(parse_payload(json.loads(request.content)["payload"].encode()), request)

    async def _take(self, job: JobPayload, request: httpx.Request, *, rerun_of: str = "") -> httpx.Response:
        key, asked = request.headers["Idempotency-Key"], (request.url.path, request.content)
        job_id, first = self._keys.get(key, ("", asked))
        if job_id and await self._jobs.load(job_id) is None:
            return _refused(HTTPStatus.GONE, f"The job of this Idempotency-Key, {job_id}, was deleted.", job_id)
        if first != asked:
            return _refused(HTTPStatus.CONFLICT, "The Idempotency-Key was used for another request.", job_id)
        job_id = job_id or await self._jobs.take(job, rerun_of=rerun_of)
        self._keys[key] = (job_id, asked)
        return _json(_id=job_id, status="queued", qname=name_of(job))

    async def _list(self, wanted: httpx.QueryParams) -> httpx.Response:
        jobs = [shown(job) for job in reversed(await self._jobs.all(wanted_queue(wanted)))]
        found = [job for job in jobs if wanted.get("status", job["status"]) == job["status"]]
        numbers = {job_id: number for number, job_id in enumerate(self.submitted)}
        limit, cursor = int(wanted.get("limit", _LIMIT)), int(wanted.get("cursor", len(numbers)))
        rest = [job for job in found if numbers[job["_id"]] < cursor]
        answer = {"data": rest[:limit], "skip": 0, "limit": limit, "total": len(found)}
        if "counts" in wanted:
            answer["counts"] = Counter(job["status"] for job in jobs)
        response = _json(**answer)
        if len(rest) > limit:
            following = wanted.set("cursor", numbers[rest[limit - 1]["_id"]])
            response.headers["Link"] = f'<?{following}>; rel="next"'
        return response

    async def _queue(self, request: httpx.Request, *asked: str) -> httpx.Response | None:
        if not asked:
            return _json(data=await self._fleet.queues())
        name = queue_name(asked[0].removeprefix("="))
        match asked[1:]:
            case ("pause",):
                return _json(**await self._fleet.pause(name, json.loads(request.content or b"{}").get("reason", "")))
            case ("resume",):
                return _json(**await self._fleet.resume(name))
        return _json(**await self._fleet.queue(name))

    async def _runner(self, *asked: str) -> httpx.Response | None:
        match asked:
            case ():
                return _json(data=await self._fleet.runners())
            case name, "drain" if self._fleet.drain(name):
                return _json(runner=name, asked=True)
        return None


class _Open:
    """Seals nothing. As with Vault, each time it is another request."""

    async def seal(self, job: JobPayload, *, wrap_ttl: str) -> Mapping[str, str]:
        return {"payload": encode(job).decode(), "wrap_secret_id": await self.wrap(wrap_ttl=wrap_ttl)}

    async def wrap(self, *, wrap_ttl: str) -> str:  # noqa: ARG002 - jobs do not wait here
        return secrets.token_hex(12)


def _is_known(url: httpx.URL) -> bool:
    known = _PARAMETERS.get(url.path.removeprefix(_API))
    return known is None or url.params.keys() <= known


def _json(**fields: Any) -> httpx.Response:
    return httpx.Response(HTTPStatus.OK, json=fields)


def _refused(code: HTTPStatus, sentence: str, job_id: str) -> httpx.Response:
    return httpx.Response(code, json={"status": f"{code.phrase}.", "error": sentence, "_id": job_id})


def _raw(content: bytes | AsyncIterable[bytes]) -> httpx.Response:
    return httpx.Response(HTTPStatus.OK, content=content)
