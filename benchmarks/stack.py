"""`stint dev` as its users run it, and clients that cost little themselves."""

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from tests.support.accounts import connected
from tests.support.stack import started

from benchmarks.bare import IMAGE
from stint.core.names.subjects import JS_PREFIX
from stint.jetstream import Access, Broker
from stint.process.environment import load
from stint.process.settings import Settings


@dataclass(frozen=True)
class Stack:
    """A running stack, and a connection pool to its API."""

    env: dict[str, str]
    folder: Path
    http: aiohttp.ClientSession

    def pid(self, name: str) -> int:
        """The process id of a part, such as `api-1` or `nats-1`."""
        return int((self.folder / "data" / "run" / f"{name}.pid").read_text(encoding="ascii"))

    def nats_access(self, role: str) -> dict[str, str]:
        """The settings with which a service of this role reaches NATS."""
        key = self.folder / "data" / "nats" / role / "STINT_NATS_NKEY"
        return {"NATS_URL": self.env["NATS_URL"], "STINT_NATS_NKEY_FILE": str(key), "STINT_JS_PREFIX": JS_PREFIX}

    async def vault(self, path: str, body: dict[str, str], **headers: str) -> Any:
        """A request to Vault with the administrator's token; its answer."""
        headers = {"X-Vault-Token": self.env["VAULT_TOKEN"], **headers}
        async with self.http.post(f"{self.env['VAULT_ADDR']}/v1/{path}", json=body, headers=headers) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def tickets(self, count: int) -> list[str]:
        """Wrapped secret ids, one for each job; made before the clock starts."""
        path = f"auth/approle/role/{self.env['STINT_ROLE']}/secret-id"
        made = [await self.vault(path, {}, **{"X-Vault-Wrap-TTL": "3600s"}) for _ in range(count)]
        return [answer["wrap_info"]["token"] for answer in made]

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """A request to the API; its answer's JSON, or its text.

        Raises:
            RuntimeError: the API refused.
        """
        data = None if body is None else msgspec.json.encode(body)
        async with self.http.request(method, self.env["STINT_URL"] + path, data=data) as answer:
            text = await answer.read()
            if answer.status != 200:  # noqa: PLR2004 - OK
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:200]!r}")
            return msgspec.json.decode(text) if text[:1] in {b"{", b"["} else text

    async def submit(self, ticket: str, *, queue: str = "bench", run: tuple[str, ...] = ("true",)) -> str:
        """Submit a plain job; its id."""
        job = {"qname": queue, "container_image": IMAGE, "run": run, "wrap_secret_id": ticket}
        return str((await self.call("POST", "/v1/api/job", job))["_id"])

    async def end(self, job_id: str) -> None:
        """Wait for a job's success on its event stream.

        Raises:
            RuntimeError: it ended otherwise: how long that takes says nothing.
        """
        async with aclosing(self.events(job_id)) as events:
            async for name, data in events:
                if name == b"end":
                    if (status := msgspec.json.decode(data)["status"]) != "success":
                        raise RuntimeError(f"job {job_id} is {status}")
                    return
        raise RuntimeError(f"the stream of job {job_id} ended before the job")

    async def events(self, job_id: str) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """Name and JSON of each event of a job's stream."""
        async with self.http.get(f"{self.env['STINT_URL']}/v1/api/job/{job_id}/events") as answer:
            name = b""
            async for line in answer.content:
                if line.startswith(b"event: "):
                    name = line[7:].strip()
                elif line.startswith(b"data: "):
                    yield name, line[6:]


def opened(stint: Stack) -> AbstractAsyncContextManager[Broker]:
    """A connection of Stint's own to the stack's NATS, for the duration of the block."""
    return connected(Access.of(load(Settings, stint.env)), name="bench", prefix="$JS.API")


@asynccontextmanager
async def stack(runners: int = 1, **env: str) -> AsyncIterator[Stack]:
    """A stack for the duration of the block, in a folder of its own."""
    settings = {"STINT_STREAMS": "100000", **env}  # one client stands for many
    with tempfile.TemporaryDirectory(prefix="stint-bench-") as name:
        async with started(Path(name), "--runners", str(runners), **settings) as made:
            headers = {"X-Auth-Token": made.env["STINT_TOKEN"]}
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as http:
                yield Stack(made.env, made.folder, http)
