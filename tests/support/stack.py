"""`stint dev` as a child process, and a client of it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiodocker
import httpx
from dotenv import dotenv_values

from stint.vault import Vault
from tests.support.answers import json_of
from tests.support.scripts import lasting
from tests.support.servers import ready
from tests.support.vault_bench import wrapped_secret_id
from tests.support.waiting import until

STINT = Path(sys.executable).with_name("stint")
LIVE = {"queued", "running", "stopping"}


@dataclass
class Result:
    code: int
    out: str
    err: str


@dataclass
class Stack:
    """A running `stint dev`."""

    process: Process
    env: dict[str, str]
    folder: Path

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def pid(self, name: str) -> int:
        return int((self.data_dir / "run" / f"{name}.pid").read_text())

    def pids(self) -> list[int]:
        return [int(path.read_text()) for path in (self.data_dir / "run").glob("*.pid")]

    def http(self, **options: Any) -> httpx.AsyncClient:
        headers = {"X-Auth-Token": self.env["STINT_TOKEN"]}
        return httpx.AsyncClient(base_url=self.env["STINT_URL"], headers=headers, timeout=30, **options)

    async def wrapped(self) -> str:
        return await wrapped_secret_id(Vault(self.env["VAULT_ADDR"]), self.env["STINT_TOKEN"], self.env["STINT_ROLE"])

    async def submit(self, script: str, **fields: Any) -> str:
        """A plain job; returns its id."""
        job = {
            "container_image": "busybox",
            "run": ["sh", "-c", lasting(script)],
            "wrap_secret_id": await self.wrapped(),
        }
        async with self.http() as http:
            return str(json_of(await http.post("/v1/api/job", json={"qname": "e2e", **job, **fields}))["_id"])

    async def get(self, job_id: str) -> dict[str, Any]:
        async with self.http() as http:
            return json_of(await http.get(f"/v1/api/job/{job_id}"))

    async def kill(self, job_id: str) -> None:
        async with self.http() as http:
            await http.post(f"/v1/api/job/kill/{job_id}")

    async def end(self, job_id: str) -> dict[str, Any]:
        """The job once it has ended: its live stream ends with it."""
        events = f"/v1/api/job/{job_id}/events"
        async with asyncio.timeout(60), self.http() as http, http.stream("GET", events) as answer:
            assert answer.status_code == httpx.codes.OK
            async for _ in answer.aiter_raw():
                pass
        body = await self.get(job_id)
        assert body["status"] not in LIVE
        return body

    async def ended(self, script: str, **fields: Any) -> str:
        """A plain job that is over; returns its id."""
        job_id = await self.submit(script, **fields)
        await self.end(job_id)
        return job_id

    async def writes(self, job_id: str) -> None:
        """Return once the job has written something."""
        events = f"/v1/api/job/{job_id}/events"
        async with asyncio.timeout(60), self.http() as http, http.stream("GET", events) as answer:
            async for line in answer.aiter_lines():
                if line == "event: output":
                    return

    async def go_on(self, job_id: str) -> None:
        """Let a job of `in_steps` that has written something take its next step."""
        await self.writes(job_id)
        async with aiodocker.Docker(url=self.env["DOCKER_HOST"]) as engine:
            await engine.containers.container((await self.get(job_id))["container_id"]).kill(signal="USR1")

    async def run(self, *arguments: str | Path, **env: str) -> Result:
        """A `stint` command with this stack's settings."""
        return await stint(*arguments, env={**self.env, **env})

    async def restart(self, name: str) -> None:
        """Kill one of its processes; returns when the API answers again."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        async with asyncio.timeout(60), self.http() as http:
            await until(lambda: ready(http), seconds=60)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(60):
            return await self.process.wait()


async def stint(*arguments: str | Path, env: Mapping[str, str]) -> Result:
    return await execute(STINT, *arguments, env=env)


async def execute(*command: str | Path, env: Mapping[str, str]) -> Result:
    return await finished(*command, env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **env})


async def finished(*command: str | Path, stdin: bytes | None = None, seconds: float = 90, **options: Any) -> Result:
    """The same with any options, and with nothing in its environment but what is given."""
    pipes = {"stdin": None if stdin is None else PIPE, "stdout": PIPE, "stderr": PIPE}
    async with program(*command, **{**pipes, **options}) as process, asyncio.timeout(seconds):
        out, err = await process.communicate(stdin)
    return Result(process.returncode or 0, out.decode(), (err or b"").decode())


@asynccontextmanager
async def program(*command: str | Path, **options: Any) -> AsyncIterator[Process]:
    """One that is killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(*command, **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def serving(service: str, env: Mapping[str, str]) -> AsyncIterator[Process]:
    """One service as a process of its own."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **env}
    process = await asyncio.create_subprocess_exec(STINT, service, env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def dev(folder: Path, *options: str, **env: str) -> AsyncIterator[Stack]:
    """`stint dev`, ready, for the duration of the block. No service asks for more of NATS than its role permits."""
    async with started(folder, *options, **env) as stack:
        yield stack
    logged = (folder / "data" / "log" / "nats-1.log").read_text() if "NATS_URL" not in env else ""
    denied = [line for line in logged.splitlines() if "Violation" in line and "STINT_PUBLISHERS" not in line]
    assert not denied, f"a service needs more of NATS than its role permits: {denied}"


@asynccontextmanager
async def started(folder: Path, *options: str, **env: str) -> AsyncIterator[Stack]:
    """The same, whatever its NATS is asked for."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - a moment, before anything runs
    env_file = folder / "stack.env"
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **env}
    if host := os.environ.get("DOCKER_HOST"):
        environment.setdefault("DOCKER_HOST", host)
    command: Sequence[str | Path] = (STINT, "dev", "--data-dir", folder / "data", "--env-file", env_file, *options)
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=STDOUT)
    assert process.stdout is not None
    try:
        await _says_ready(process.stdout)
    except BaseException:
        process.terminate()  # nobody else would end it
        await process.communicate()
        raise
    stack = Stack(process, {name: value or "" for name, value in dotenv_values(env_file).items()}, folder)
    drain = asyncio.create_task(process.stdout.read())
    try:
        yield stack
    finally:
        await stack.stop()
        await drain


async def _says_ready(output: asyncio.StreamReader) -> None:
    said = b""
    async with asyncio.timeout(60):
        while b"ready: " not in said:
            line = await output.readline()
            said += line
            assert line, said.decode()


async def gone(*pids: int) -> None:
    """Returns when all of them have ended, though they are no children of this process."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        for pid in pids:
            try:
                watched = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            ended = asyncio.Event()
            loop.add_reader(watched, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(watched)
                os.close(watched)


def alive(pids: Sequence[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]
