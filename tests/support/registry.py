"""A real image registry (Debian's `docker-registry`) as a process, and an engine that has it as Docker Hub's mirror."""

import contextlib
import io
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiodocker
import httpx
import stamina

from tests.support.second_engine import second_engine
from tests.support.servers import PLAIN, ServerProcess, ready, running
from tests.support.tarballs import tar_of

_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_ACCESS = re.compile(
    r'"(?P<method>GET|HEAD) /v2/(?P<name>\S+)/manifests/(?P<reference>\S+) HTTP/[\d.]+" (?P<status>\d+) \d+ ""'
    r' "docker/'
)
"""In the line of an answered request (Apache's combined format), the last part being the user agent."""


@dataclass(frozen=True)
class Asked:
    """A request for an image's manifest, with which each pull begins. `status` is the answer's."""

    method: str
    name: str
    reference: str
    status: int


@dataclass
class Registry(ServerProcess):
    """A registry on loopback. With `users` (name: password) it wants one of these logins for everything.

    It can be stopped and started again; its images and its address stay. Its own methods log in as the first user.
    """

    users: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def host(self) -> str:
        """What image names begin with: `127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def login(self) -> dict[str, str]:
        """That of the first user, as aiodocker takes it: `username` and `password`. Empty if none is wanted."""
        return next(({"username": name, "password": password} for name, password in self.users.items()), {})

    async def push(self, image: str, name: str) -> str:
        """Push an image of this machine's engine as `name` (`team/app:1`); returns the full reference.

        The engine has no new name afterwards: it pushes with a tag of its own, which stays in the registry.
        """
        path, _, wanted = name.partition(":")
        repository, tag = f"{self.host}/{path}", f"pushed-{secrets.token_hex(8)}"
        async with aiodocker.Docker() as docker:
            await docker.images.tag(image, repository, tag=tag)
            try:
                async for line in docker.images.push(repository, tag=tag, auth=self.login or None, stream=True):
                    if "error" in line:
                        raise RuntimeError(f"The push failed: {line['error']}")
            finally:
                await docker.images.delete(f"{repository}:{tag}")
        await self._tag(path, tag, wanted or "latest")
        return f"{repository}:{wanted or 'latest'}"

    async def push_new(self, base: str, name: str) -> str:
        """Push an image that no engine has: `base` with a label of its own. Returns the full reference."""
        made = f"stint-test/{secrets.token_hex(8)}"
        context = tar_of({"Dockerfile": f"FROM {base}\nLABEL stint.test.nonce={secrets.token_hex(8)}\n"})
        async with aiodocker.Docker() as docker:
            # An engine can lose what it has just built while others build, delete and prune beside it.
            async for attempt in stamina.retry_context(on=aiodocker.DockerError, attempts=3):
                with attempt:
                    await docker.images.build(fileobj=io.BytesIO(context), tag=made, encoding="identity")
            try:
                return await self.push(made, name)
            finally:
                await docker.images.delete(made)

    async def digest(self, name: str) -> str:
        """The digest of `name` (`team/app:1`), as it stands behind `@`."""
        repository, _, tag = name.partition(":")
        async with self._client() as client:
            answer = await client.head(f"/v2/{repository}/manifests/{tag or 'latest'}")
        return str(answer.raise_for_status().headers["Docker-Content-Digest"])

    async def _tag(self, path: str, tag: str, wanted: str) -> None:
        async with self._client() as client:
            manifest = (await client.get(f"/v2/{path}/manifests/{tag}")).raise_for_status()
            headers = {"Content-Type": manifest.headers["Content-Type"]}
            answer = await client.put(f"/v2/{path}/manifests/{wanted}", content=manifest.content, headers=headers)
        answer.raise_for_status()

    def asked(self, name: str = "") -> Sequence[Asked]:
        """Engines' requests for manifests that it has answered, of one repository (`team/app`) or of all.

        The registry writes these lines before it sends the answer: a pull that has ended is in here, and no push.
        """
        found = (Asked(m["method"], m["name"], m["reference"], int(m["status"])) for m in _ACCESS.finditer(self.log))
        return [asked for asked in found if name in {"", asked.name}]

    def _client(self) -> httpx.AsyncClient:
        basic = httpx.BasicAuth(*self.login.values()) if self.login else None
        accept = {"Accept": _MANIFEST_TYPE}
        return httpx.AsyncClient(base_url=self.url, auth=basic, headers=accept, verify=PLAIN, trust_env=False)

    def _command(self) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        config = self.data_dir / "registry.json"  # JSON is YAML
        config.write_text(json.dumps(self._config()), encoding="utf-8")
        return [_program("docker-registry"), "serve", config], {"OTEL_TRACES_EXPORTER": "none"}

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.data_dir / "images")}, "delete": {"enabled": True}},
            "http": {"addr": self.host, "secret": secrets.token_hex(16)},
        }
        if self.users:
            path = self.data_dir / "htpasswd"
            path.write_text("".join(f"{_htpasswd(name, password)}\n" for name, password in self.users.items()))
            config["auth"] = {"htpasswd": {"realm": "stint-test", "path": str(path)}}
        return config

    async def _ready(self) -> bool:
        async with self._client() as client:
            return await ready(client, "/v2/")


@contextlib.asynccontextmanager
async def registry(folder: Path, *, users: Mapping[str, str] | None = None) -> AsyncIterator[Registry]:
    """Run a registry for the duration of the block, with its files in `folder`."""
    async with running(server := Registry(folder / "registry", users=users or {})):
        yield server


@contextlib.asynccontextmanager
async def mirrored_engine(folder: Path, mirror: Registry) -> AsyncIterator[str]:
    """Run an engine of the test's own, which asks `mirror` for what names no registry. Yields its DOCKER_HOST.

    What stands there as `library/busybox` is its `busybox`. Needs root, or a sudo that asks nothing.
    """
    async with second_engine(folder, "--registry-mirror", mirror.url) as engine:
        yield engine.host


def _htpasswd(name: str, password: str) -> str:
    """The password goes in by standard input."""
    command = [_program("htpasswd"), "-inB", "-C", "4", name]
    return subprocess.run(command, check=True, capture_output=True, text=True, input=password).stdout.strip()


def _program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin")
    if path is None:
        raise RuntimeError(f"{name} is not installed: scripts/ensure-registry does that on Debian and Ubuntu.")
    return path
