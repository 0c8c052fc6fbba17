"""A Stint in memory, for the tests of programs that use `stint.client`."""

import base64
import json
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import msgspec

from stint.client import Client, SyncClient
from stint.client.api import Api
from stint.core.codec import encode
from stint.core.events import AnyEvent, Deleted, Ended, KillRequested, Started, Submitted
from stint.core.job import Job, State
from stint.core.names.ids import normalise_queue_name, queue_token
from stint.core.output.chain import Chain
from stint.core.submission.payload import JobPayload, parse_payload
from stint.core.view import view
from stint.testing.memory import MemoryEventLog

_JOB: Final = "/v1/api/job"


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a job of `FakeStint` ends.

    Attributes:
        return_code: of its command.
        output: what it wrote to standard output.
        stderr: what it wrote to standard error, after that.
        reason: the API's word for it if no command ran or it was stopped, such as `image` or `timeout`.
        error: the reason in words.
    """

    return_code: int = 0
    output: bytes = b""
    stderr: bytes = b""
    reason: str = ""
    error: str = ""

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """The output by stream."""
        return (pair for pair in (("stdout", self.output), ("stderr", self.stderr)) if pair[1])

    def event(self, image: str) -> Ended:
        """The end, as a runner records it."""
        chain = Chain()
        for _, data in self.chunks():
            chain = chain.add(data)
        return Ended(
            **_written(),
            status=State.FAILED if self.return_code or self.reason else State.SUCCESS,
            reason=self.reason or ("exit_code" if self.return_code else ""),
            error=self.error,
            return_code=self.return_code,
            container_image=image,
            chunks=chain.chunks,
            output_bytes=chain.size,
            output_digest=chain.digest,
            output_complete=True,
        )


def _succeed(_job: JobPayload) -> Ending:
    return Ending()


class FakeStint:
    """Takes jobs from a real `Client`, and ends each as the test says. Nothing runs, and there is no Vault.

    It knows submissions, reruns, keys, kills, deletions, lists by queue and status, output and live streams. It does
    not check tokens, policies, images or secrets; its jobs do not wait for each other; anything else is a 404.

    Attributes:
        submitted: the jobs, by id, in the order of their submission.
    """

    def __init__(self, ending: Callable[[JobPayload], Ending | None] = _succeed) -> None:
        """`ending` says how a job ends, at once; with None it waits until it is killed, or until `end` is called."""
        self.submitted: dict[str, JobPayload] = {}
        self._ending = ending
        self._endings: dict[str, Ending] = {}
        self._keys: dict[str, str] = {}
        self._log = MemoryEventLog()

    def client(self) -> Client:
        """A client of it."""
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer), base_url="http://stint.invalid")
        return Client(Api(http), _Open())

    def sync_client(self) -> SyncClient:
        """A client of it without async."""
        return SyncClient(self.client())

    async def end(self, job_id: str, ending: Ending) -> None:
        """End a job that waits."""
        job = self.submitted[job_id]
        self._endings[job_id] = ending
        await self._append(job_id, Started(**_written(), runner="fake"), ending.event(job.container_image))

    async def _append(self, job_id: str, *events: AnyEvent) -> None:
        await self._log.append(queue_token(normalise_queue_name(self.submitted[job_id].qname)), job_id, *events)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path.removeprefix(_JOB).split("/"):
            case "POST", [""]:
                return await self._submit(request)
            case "GET", [""]:
                return await self._list(request.url.params)
            case "POST", ["", "kill", job_id] if job := await self._load(job_id):
                return await self._kill(job)
            case method, ["", job_id, *rest] if job := await self._load(job_id):
                return await self._about(job, method, *rest, request=request)
        return _not_found()

    async def _about(self, job: Job, *asked: str, request: httpx.Request) -> httpx.Response:
        stream = request.url.params.get("stream")
        match asked:
            case ("GET",):
                return httpx.Response(200, json=_shown(job))
            case "GET", "output":
                chunks = self._endings.get(job.job_id, Ending()).chunks()
                return httpx.Response(200, content=b"".join(data for name, data in chunks if stream in {None, name}))
            case "GET", "events":
                return httpx.Response(200, content=self._events(job.job_id))
            case "POST", "rerun":
                return await self._take(self.submitted[job.job_id], request)
            case ("DELETE",):
                await self._append(job.job_id, Deleted(**_written()))
                return httpx.Response(200, json={"_id": job.job_id})
        return _not_found()

    async def _load(self, job_id: str) -> Job | None:
        job = await self._log.load(job_id)
        return None if job is None or job.state is State.DELETED else job

    async def _submit(self, request: httpx.Request) -> httpx.Response:
        return await self._take(parse_payload(json.loads(request.content)["payload"].encode()), request)

    async def _take(self, job: JobPayload, request: httpx.Request) -> httpx.Response:
        key = request.headers.get("Idempotency-Key", "")
        if key not in self._keys:
            self._keys[key] = job_id = secrets.token_hex(12)
            self.submitted[job_id] = job
            submitted = Submitted(**_written(), qname=job.qname, ticket="", payload_chunks=1, payload_bytes=1)
            await self._append(job_id, submitted)
            if ending := self._ending(job):
                await self.end(job_id, ending)
        return httpx.Response(200, json={"_id": self._keys[key], "status": "queued", "qname": job.qname})

    async def _list(self, wanted: httpx.QueryParams) -> httpx.Response:
        loaded = [await self._load(job_id) for job_id in reversed(self.submitted)]
        shown = [_shown(job) for job in loaded if job]
        names = [name for name in ("qname", "status") if name in wanted]
        found = [job for job in shown if all(job[name] == wanted[name] for name in names)]
        return httpx.Response(200, json={"data": found, "skip": 0, "limit": len(found), "total": len(found)})

    async def _kill(self, job: Job) -> httpx.Response:
        if not job.terminal:
            killed = Ending(reason="killed", error="job killed")
            await self._append(job.job_id, KillRequested(**_written()), killed.event(""))
        answer = {"_id": job.job_id, "container_id": "", "status": job.state, "kill_requested": not job.terminal}
        return httpx.Response(200, json=answer)

    async def _events(self, job_id: str) -> AsyncGenerator[bytes, None]:
        told: set[str] = set()
        async with self._log.follow(job_id) as changed:
            while job := await self._log.load(job_id):
                changed.clear()
                if job.terminal:
                    for event in self._output(job_id):
                        yield event
                for kind, record in job.facts.items():
                    if kind not in told:
                        yield _event("fact", _fact(job, kind))
                        told.add(record.kind)
                if job.terminal:
                    yield _event("end", _shown(job))
                    return
                await changed.wait()

    def _output(self, job_id: str) -> Iterator[bytes]:
        offset = 0
        for number, (stream, data) in enumerate(self._endings.get(job_id, Ending()).chunks(), start=1):
            text = base64.b64encode(data).decode()
            yield _event("output", {"number": number, "offset": offset, "stream": stream, "data": text})
            offset += len(data)


def _not_found() -> httpx.Response:
    return httpx.Response(404, json={"status": "Not Found.", "error": "not found"})


class _Open:
    """Seals nothing."""

    async def seal(self, job: JobPayload, *, wrap_ttl: str) -> Mapping[str, str]:  # noqa: ARG002 - jobs do not wait here
        return {"payload": encode(job).decode()}

    async def wrap(self, *, wrap_ttl: str) -> str:
        return wrap_ttl


def _written() -> dict[str, Any]:
    return {"event_id": secrets.token_hex(8), "at": datetime.now(UTC).isoformat(), "by": "fake"}


def _shown(job: Job) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(view(job))
    return shown


def _fact(job: Job, kind: str) -> dict[str, Any]:
    record = job.facts[kind]
    own: dict[str, Any] = msgspec.to_builtins(record.event)
    chunks = {"output_chunks": own["chunks"]} if "chunks" in own else {}
    return own | chunks | {"kind": kind, "at": record.time, "sequence": record.sequence, "status": job.state}


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
