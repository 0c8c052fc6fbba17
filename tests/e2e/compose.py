"""compose.yaml as a stack of the test's own: a project name and ports that nobody else has."""

import asyncio
import contextlib
import json
import os
import pwd
import re
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.compose import docker, known
from scripts.smoke import Run, submitted

from stint.cli.dev.demo_image import BUSYBOX
from stint.client.api import Api, connect
from stint.client.options import endpoints
from tests.e2e.stack import Result, alive

ROOT = Path(__file__).parents[2]
PREFIX = f"stint-test-{re.sub('[^a-z0-9]', '', socket.gethostname().lower())}"
"""Of the names of all such projects of this machine; the process that made one comes next."""
LEFT = {
    "containers": ("ps", "--all"),
    "networks": ("network", "ls"),
    "volumes": ("volume", "ls"),
    "images": ("image", "ls"),
}


def still_ports() -> Iterator[str]:
    """Ports that are free, and stay so while images are built: no system hands them out to outgoing connections."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            yield str(port)


@dataclass
class Compose:
    """A stack that `make up` may start, and what it is given: its own names, ports and files.

    Attributes:
        said: by `make up`, when it was done.
    """

    folder: Path
    project: str = field(default_factory=lambda: f"{PREFIX}-{os.getpid()}-{secrets.token_hex(3)}")
    ports: Mapping[str, str] = field(
        default_factory=lambda: dict(zip(("STINT_PORT", "VAULT_PORT", "NATS_PORT"), still_ports(), strict=False))
    )
    said: str = ""

    @property
    def env_file(self) -> Path:
        return self.folder / f"{self.project}.env"

    @property
    def env(self) -> dict[str, str]:
        """What `make up` wrote."""
        return known(self.env_file)

    async def make(self, target: str, arguments: str = "", **env: str) -> Result:
        """A target of the Makefile, as its user calls it: with his HOME, where pip and Docker are configured."""
        home = {"HOME": pwd.getpwuid(os.getuid()).pw_dir}
        own = {"COMPOSE_PROJECT_NAME": self.project, **self.ports, **env}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        process = await asyncio.create_subprocess_exec(
            *("make", target, f"ARGS=--env-file {self.env_file} {arguments}"),
            cwd=ROOT,
            env={**inherited, **home, **own},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return Result(process.returncode or 0, out.decode(), err.decode())

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
    async def api(self) -> AsyncIterator[Api]:
        async with connect(endpoints(self.env)) as api:
            yield api

    async def submit(self, api: Api, queue: str, script: str, *, image: str = BUSYBOX) -> Run:
        return await submitted(api, self.env, queue, script, image=image)


@asynccontextmanager
async def composed(folder: Path) -> AsyncIterator[Compose]:
    """A stack, up and healthy; down whatever happens."""
    stack = Compose(folder)
    try:
        result = await stack.make("up")
        assert result.code == 0, result
        stack.said = result.out
        yield stack
    finally:
        result = await stack.make("down")
    assert result.code == 0, result


async def sweep(folder: Path) -> None:
    """Take down what killed test runs of this machine left."""
    label = "com.docker.compose.project"
    names = await docker("ps", "--all", f"--filter=label={label}", "--format", f'{{{{.Label "{label}"}}}}')
    for name in sorted({*names.split()}):
        match = re.fullmatch(rf"{PREFIX}-(\d+)-[0-9a-f]+", name)
        if match and not alive([int(match[1])]):
            await Compose(folder, project=name).make("down")
