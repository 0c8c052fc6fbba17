"""`stint dev` as its users run it, and clients that cost little themselves."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from dotenv import dotenv_values

from benchmarks.bare import IMAGE
from stint.core.names.subjects import JS_PREFIX
from stint.jetstream import Access, Broker
from stint.process.environment import load
from stint.process.settings import Settings

START: Final = 120
"""Seconds that the stack may take to start."""


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

    async def submit(
        self, ticket: str, *, queue: str = "bench", run: tuple[str, ...] = ("true",), **fields: Any
    ) -> str:
        """Submit a plain job; its id."""
        job = {"qname": queue, "container_image": IMAGE, "run": run, "wrap_secret_id": ticket, **fields}
        return str((await self.call("POST", "/v1/api/job", job))["_id"])

    async def end(self, job_id: str) -> dict[str, Any]:
        """Wait for a job's end on its event stream; what that says of it."""
        url = f"{self.env['STINT_URL']}/v1/api/job/{job_id}/events"
        async with self.http.get(url) as answer:
            name = b""
            async for line in answer.content:
                if line.startswith(b"event: "):
                    name = line[7:].strip()
                elif line.startswith(b"data: ") and name == b"end":
                    return dict(msgspec.json.decode(line[6:]))
        raise RuntimeError(f"the stream of job {job_id} ended before the job")


@asynccontextmanager
async def opened(stint: Stack) -> AsyncIterator[Broker]:
    """A connection of Stint's own to the stack's NATS, for the duration of the block."""
    broker = Broker(Access.of(load(Settings, stint.env)), name="bench")
    broker.start()
    await broker.wait_connected()
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def stack(runners: int = 1, **env: str) -> AsyncIterator[Stack]:
    """A stack for the duration of the block, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="stint-bench-") as name:
        folder = Path(name)
        env_file = folder / "stack.env"
        options: list[str | Path] = ["--data-dir", folder / "data", "--env-file", env_file, "--runners", str(runners)]
        inherited = {key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_HOST") if key in os.environ}
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("stint"),
            "dev",
            *options,
            env=inherited | {"STINT_STREAMS": "100000"} | env,  # one client stands for many
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            await asyncio.wait_for(_ready(process), START)
            settings = {key: value or "" for key, value in dotenv_values(env_file).items()}
            connector = aiohttp.TCPConnector(limit=0)
            headers = {"X-Auth-Token": settings["STINT_TOKEN"]}
            async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
                yield Stack(settings, folder, http)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()


async def _ready(process: asyncio.subprocess.Process) -> None:
    said = b""
    while b"ready: " not in said:
        line = await process.stdout.readline()  # type: ignore[union-attr] # it is a pipe
        said += line
        if not line:
            raise RuntimeError(f"stint dev did not start: {said.decode()}")
