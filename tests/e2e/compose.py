"""compose.yaml as a stack of the test's own: a project name and ports that nobody else has."""

import asyncio
import json
import os
import pwd
import re
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from testcontainers.compose import DockerCompose

from stint.client import Client, Endpoints, JobEvent, JobHandle, JobResult, Output
from stint.core.submission.payload import JobPayload
from tests.support.ports import free_ports
from tests.support.stack import Result, alive, finished

ROOT = Path(__file__).parents[2]
PREFIX = f"stint-test-{re.sub('[^a-z0-9]', '', socket.gethostname().lower())}"
"""Of the names of all such projects of this machine; the process that made one comes next."""
PORTS = ("STINT_PORT", "VAULT_PORT", "NATS_PORT")
"""Settings, whose values must stay free while images are built."""
LEFT = {
    "containers": ("ps", "--all"),
    "networks": ("network", "ls"),
    "volumes": ("volume", "ls"),
    "images": ("image", "ls"),
}


async def run(*command: str | Path, **env: str) -> Result:
    """A command in the repository, with its user's HOME, where pip and Docker are configured."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    return await finished(*command, cwd=ROOT, env={**os.environ, "HOME": home, **env}, seconds=3600)


async def docker(*arguments: str) -> str:
    """Standard output of a `docker` command, which must succeed."""
    result = await run("docker", *arguments)
    assert result.code == 0, result
    return result.out


@dataclass
class Run:
    """A job that was submitted, and its live stream, which is read once."""

    job: JobHandle
    events: AsyncIterator[JobEvent]
    output: bytes = b""

    async def until_output(self) -> None:
        """Read its first output."""
        await self._read(Output)
        assert self.output

    async def until_end(self, **wanted: object) -> None:
        """Follow it to its end, which must be as wanted."""
        await self._read(JobResult)
        await self.expect(**wanted)

    async def expect(self, **wanted: object) -> None:
        job = await self.job.info()
        assert {name: getattr(job, name) for name in wanted} == wanted, job

    async def _read(self, last: type[JobEvent]) -> None:
        async for event in self.events:
            if isinstance(event, Output):
                self.output += event.data
            if isinstance(event, last):
                return


@dataclass
class Compose:
    """A stack that `docker compose up` may start, with its own names and ports."""

    project: str = field(default_factory=lambda: f"{PREFIX}-{os.getpid()}-{secrets.token_hex(3)}")
    ports: Mapping[str, str] = field(default_factory=lambda: dict(zip(PORTS, map(str, free_ports()), strict=False)))
    endpoints: Endpoints | None = None

    @property
    def nats_url(self) -> str:
        return f"nats://127.0.0.1:{self.ports['NATS_PORT']}"

    async def up(self) -> None:
        """Build and start it, as `make up` does."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (await self._environment()).items():
                patch.setenv(name, value)
            stack = DockerCompose(ROOT, build=True)
            await asyncio.to_thread(stack.start)
            root, _, _ = stack.exec_in_container(["cat", "/run/openbao/root-token"], "openbao")
        url, vault = (f"http://127.0.0.1:{self.ports[name]}" for name in ("STINT_PORT", "VAULT_PORT"))
        self.endpoints = Endpoints(url=url, vault_addr=vault, token=root)

    async def down(self) -> Result:
        return await self.compose("down", "--volumes", "--remove-orphans", "--rmi", "local")

    async def compose(self, *arguments: str, **env: str) -> Result:
        """A `docker compose` command that testcontainers has no method for."""
        return await run("docker", "compose", *arguments, **await self._environment(), **env)

    async def _environment(self) -> dict[str, str]:
        made = await run("scripts/ensure-python-image")
        conf = await run(sys.executable, "-m", "scripts.pip_conf")
        return {
            "HOME": pwd.getpwuid(os.getuid()).pw_dir,
            "PYTHON_IMAGE": made.out.strip(),
            "PIP_CONF": conf.out,
            "DOCKER_GID": str(Path("/var/run/docker.sock").stat().st_gid),  # noqa: ASYNC240 - a moment
            "COMPOSE_PROJECT_NAME": self.project,
            **self.ports,
        }

    async def containers(self, service: str = "") -> Sequence[Mapping[str, Any]]:
        """As `docker inspect` tells of them."""
        labels = {"project": self.project, **({"service": service} if service else {})}
        filters = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        ids = (await docker("ps", "--all", "--quiet", *filters)).split()
        found: Sequence[Mapping[str, Any]] = json.loads(await docker("inspect", *ids)) if ids else []
        return found

    async def left(self) -> dict[str, list[str]]:
        """What of the stack is on the engine, by kind."""
        only = f"--filter=label=com.docker.compose.project={self.project}"
        found = {kind: (await docker(*command, "--quiet", only)).split() for kind, command in LEFT.items()}
        return {kind: ids for kind, ids in found.items() if ids}

    @asynccontextmanager
    async def submitted(self, queue: str, script: str, *refs: str) -> AsyncIterator[Run]:
        """A sealed job, and a client of the API that follows it."""
        assert self.endpoints
        job = JobPayload(qname=queue, container_image="busybox", run=("sh", "-c", script), secret_refs=refs)
        async with asyncio.timeout(60), Client.connect(self.endpoints) as stint:
            submitted = await stint.send(await stint.seal(job))
            yield Run(submitted, submitted.stream())


@asynccontextmanager
async def composed() -> AsyncIterator[Compose]:
    """A stack, up and healthy; down whatever happens."""
    stack = Compose()
    try:
        await stack.up()
        yield stack
    finally:
        result = await stack.down()
    assert result.code == 0, result


async def sweep() -> None:
    """Take down what killed test runs of this machine left."""
    label = "com.docker.compose.project"
    names = await docker("ps", "--all", f"--filter=label={label}", "--format", f'{{{{.Label "{label}"}}}}')
    for name in sorted({*names.split()}):
        match = re.fullmatch(rf"{PREFIX}-(\d+)-[0-9a-f]+", name)
        if match and not alive([int(match[1])]):
            await Compose(project=name).down()
