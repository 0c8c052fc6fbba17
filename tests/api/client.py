"""A client of the API under test. It knows the contract and HTTP, and none of Stint's own code."""

import asyncio
import base64
import json
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.api.vault import Vault
from tests.support.answers import json_of
from tests.support.scripts import lasting
from tests.support.waiting import until

JOB = "/v1/api/job"
NEVER = "0001-01-01T00:00:00Z"
UNKNOWN_ID = "0123456789abcdef01234567"
BUSYBOX = "busybox"
ID = re.compile(r"[0-9a-f]{24}")
WAIT = 30
"""Seconds that anything may take."""

Json = dict[str, Any]


class Event(NamedTuple):
    """One event of a stream. Where it is a job's output, `data` has what was printed as `text`."""

    name: str
    ident: str
    data: Json


def shell(script: str) -> list[str]:
    """A command that runs the script."""
    return ["sh", "-c", lasting(script)]


def in_steps(*steps: str) -> str:
    """A script that waits for `Api.go_on` between two steps."""
    waits = [f"until [ $told -ge {number} ]; do sleep 0.05; done" for number in range(1, len(steps))]
    rest = [part for both in zip(waits, steps[1:], strict=True) for part in both]
    return "; ".join(["told=0; trap 'told=$((told + 1))' USR1", steps[0], *rest])


def until_term(action: str = "exit 0") -> str:
    """A script that says `ready`, and does `action` on SIGTERM."""
    return f"trap '{action}' TERM; echo ready; sleep 600 & while :; do wait; done"


def new_queue() -> str:
    return f"suite-{secrets.token_hex(5)}"


def shell_job(script: str = "echo it ran", **fields: Any) -> Json:
    """A job that runs the script in a queue of its own."""
    return {"qname": new_queue(), "container_image": BUSYBOX, "run": shell(script), **fields}


@dataclass(frozen=True)
class Api:
    """A stack, by what its `--env-file` says. `http` sends the client's token with each request."""

    env: Mapping[str, str] = field(repr=False)
    http: httpx.AsyncClient
    vault: Vault

    def anonymous(self, **headers: str) -> httpx.AsyncClient:
        """A client without a token, but for one in `headers`."""
        return httpx.AsyncClient(base_url=self.env["STINT_URL"], headers=headers, timeout=WAIT, trust_env=False)

    def engine(self) -> httpx.AsyncClient:
        """The engine's own API, where it has a socket on this machine."""
        transport = httpx.AsyncHTTPTransport(uds=self.env["DOCKER_HOST"].removeprefix("unix://"))
        return httpx.AsyncClient(base_url="http://engine", transport=transport, timeout=WAIT)

    def pid(self, service: str) -> int:
        """The process id of `<service>-<n>`."""
        return int((Path(self.env["STINT_DATA_DIR"]) / "run" / f"{service}.pid").read_text())

    # --- submitting ---------------------------------------------------------------------------------------------------

    async def envelope(self, **fields: Any) -> Json:
        """What each submission needs: a queue of its own, and a good wrapping token."""
        return {"qname": new_queue(), "wrap_secret_id": await self.vault.wrapped(), **fields}

    async def plain(self, script: str = "true", **fields: Any) -> Json:
        """A request in the simple mode."""
        return await self.envelope(**{"container_image": BUSYBOX, "run": shell(script), **fields})

    async def sealed(self, job: Json, **fields: Any) -> Json:
        """A request with a payload."""
        envelope = await self.envelope(**{"qname": job.get("qname", ""), **fields})
        return {"payload": await self.vault.sealed(job), **envelope}

    async def post(self, body: Any, **headers: str) -> httpx.Response:
        """Bytes go as they are, anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(JOB, content=content, headers=names)

    async def taken(self, body: Any, **headers: str) -> str:
        """The id of a job that was accepted."""
        return str(json_of(await self.post(body, **headers))["_id"])

    async def submit(self, script: str = "true", **fields: Any) -> str:
        return await self.taken(await self.plain(script, **fields))

    # --- looking ------------------------------------------------------------------------------------------------------

    async def get(self, job_id: str, **params: str) -> Json:
        return json_of(await self.http.get(f"{JOB}/{job_id}", params=params))

    async def status(self, job_id: str) -> str:
        return str((await self.get(job_id))["status"])

    def events(self, job_id: str, *, after: str = "") -> AsyncGenerator[Event, None]:
        """The job's stream, to its end."""
        return self.stream(f"{JOB}/{job_id}/events", after=after)

    async def stream(self, path: str, *, after: str = "", **params: str) -> AsyncGenerator[Event, None]:
        """A stream of events, behind the one with the id `after`."""
        async with self.http.stream("GET", path, params=params, headers={"Last-Event-ID": after}) as answer:
            assert answer.status_code == httpx.codes.OK
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    yield _event(fields)
                    fields = {}

    async def ended(self, job_id: str) -> Json:
        """The job once it has ended: its stream ends with it."""
        try:
            async with asyncio.timeout(WAIT):
                last = [event.name async for event in self.events(job_id)][-1]
        except TimeoutError:
            raise AssertionError(f"it has not ended: {await self.kill(job_id)}") from None
        assert last == "end"
        job = await self.get(job_id)
        assert job["status"] not in {"queued", "running", "stopping"}
        return job

    async def run(self, script: str = "true", **fields: Any) -> Json:
        """A plain job, ended."""
        return await self.ended(await self.submit(script, **fields))

    async def run_sealed(self, job: Json, **fields: Any) -> Json:
        """A job that is a payload, ended; `fields` are those of the request."""
        return await self.ended(await self.taken(await self.sealed(job, **fields)))

    async def raw(self, job_id: str, **params: str) -> bytes:
        """The job's output as it was written: nothing that a browser would show as a page."""
        answer = await self.http.get(f"{JOB}/{job_id}/output", params=params)
        assert answer.status_code == httpx.codes.OK, answer.text
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        return answer.content

    async def said(self, job_id: str, text: str = "ready") -> str:
        """What the job has printed, as soon as `text` is in it."""
        printed = ""
        async with asyncio.timeout(WAIT):
            async for event in self.events(job_id):
                printed += str(event.data.get("text", ""))
                if text in printed:
                    return printed
        raise AssertionError(f"{text!r} was never printed: {await self.get(job_id)}")

    async def go_on(self, job_id: str) -> None:
        """Let a running job of `in_steps` take its next step."""
        if not self.env["DOCKER_HOST"].startswith("unix://"):
            pytest.skip("the engine is elsewhere")
        container = (await self.get(job_id))["container_id"]
        async with self.engine() as engine:
            answer = await engine.post(f"/containers/{container}/kill", params={"signal": "USR1"})
        assert answer.is_success, answer.text

    async def run_in_steps(self, *steps: str) -> Json:
        """A plain job, ended, each of whose steps begins when what the one before has written is stored."""
        job_id, left = await self.submit(in_steps(*steps)), len(steps) - 1
        async with asyncio.timeout(WAIT):
            async for event in self.events(job_id):
                if event.name == "output" and left:
                    left -= 1
                    await self.go_on(job_id)
        return await self.get(job_id)

    async def happened(self, job_id: str, kind: str) -> Event:
        """The fact, as soon as it stands in the stream."""
        async with asyncio.timeout(WAIT):
            async for event in self.events(job_id):
                if event.data.get("kind") == kind:
                    return event
        raise AssertionError(f"no {kind}: {await self.get(job_id)}")

    async def list(self, **params: Any) -> Json:
        return json_of(await self.http.get(JOB, params=params))

    async def listed(self, total: int, **params: Any) -> Json:
        """A list once it has so many jobs: it may lag by a second."""
        return await until(lambda: self.list(**params), lambda body: body["total"] == total)

    async def appears(self, job_id: str, **params: Any) -> None:
        """Return once the job is in the list, likewise."""
        await until(lambda: self.list(limit=100, **params), lambda body: job_id in [job["_id"] for job in body["data"]])

    # --- ending -------------------------------------------------------------------------------------------------------

    async def kill(self, job_id: str) -> Json:
        return json_of(await self.http.post(f"{JOB}/kill/{job_id}"))

    async def delete(self, job_id: str) -> httpx.Response:
        return await self.http.delete(f"{JOB}/{job_id}")

    @asynccontextmanager
    async def busy(self, qname: str) -> AsyncIterator[str]:
        """A queue with a running job in front, whose id this yields; it is killed in the end."""
        job_id = await self.submit(until_term(), qname=qname)
        try:
            await self.said(job_id)
            yield job_id
        finally:
            await self.kill(job_id)
            await self.ended(job_id)


def _event(fields: Mapping[str, str]) -> Event:
    data: Json = json.loads(fields["data"])
    if fields.get("event") == "output":
        data["text"] = base64.b64decode(data["data"]).decode(errors="replace")
    return Event(fields.get("event", ""), fields.get("id", ""), data)


def refused(answer: httpx.Response, code: int, title: str) -> str:
    """Check that this is the contract's error body; returns its `error`."""
    assert (answer.status_code, answer.headers["content-type"]) == (code, "application/json; charset=utf-8"), (
        answer.text
    )
    assert answer.text.endswith("}\n")
    body = answer.json()
    assert set(body) - {"_id"} == {"status", "error"}
    assert body["status"] == title
    assert body["error"]
    return str(body["error"])


def bad_request(answer: httpx.Response) -> str:
    return refused(answer, 400, "Invalid job request.")
