"""The container engine as Docker speaks it (tried on Docker 26)."""

import asyncio
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from ssl import SSLContext
from typing import Any, Final, Self

from aiodocker import DockerError
from aiodocker.containers import DockerContainer
from aiohttp import ClientTimeout, SocketTimeoutError

from stint.core.errors import (
    ConfigError,
    EngineError,
    EngineUnansweredError,
    EngineUnavailableError,
    ImageError,
)
from stint_runner.engine import docker_wire as wire
from stint_runner.engine.docker_client import SHORT, STEP, DockerClient, engine_errors, tls_context
from stint_runner.engine.docker_images import DockerImages
from stint_runner.engine.docker_output import attached, logged
from stint_runner.engine.port import (
    ContainerInfo,
    ContainerSpec,
    DanglingLinkError,
    Engine,
    EngineAccess,
    Exit,
    Offers,
    OutputPiece,
)
from stint_runner.registry.logins import LoginSource

DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
SCHEMES: Final = ("unix://", "tcp://", "http://", "https://")
ARCHIVE: Final = ClientTimeout(total=600, sock_connect=10)  # for up to 1 GiB of content
WAIT: Final = ClientTimeout(sock_connect=10, sock_read=60)
"""For a container's end, which is asked for again each minute: an answer that got lost would never come."""
LATE_NEWS: Final = 10.0
"""Seconds for an answer that takes one (`oom_filter`). Without it, how a container ended is known all the same."""
STOP_MARGIN: Final = 30.0
"""Seconds beyond the grace within which the engine must answer a stop, which it does when the container has exited."""

_UNREADABLE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST})  # Docker's answers where no path is
_NO_PATH: Final = re.compile("not a directory|too many (links|levels of symbolic links)|file name too long")
"""In its answer if a path leads through a file, or in a circle. Its status is 500, as that of failures that pass."""
_NO_TARGET: Final = "Could not find the file / "
"""Its answer to an archive with a hard link that leads nowhere: `/` itself is always there."""
_NOT_RUNNING: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})


class DockerEngine(DockerImages, Engine):
    """One engine, behind a socket or an address, to which the first call connects.

    Raises ConfigError for an address with an unknown scheme.

    The environment and the docker client's configuration are ignored.
    """

    def __init__(
        self,
        docker_host: str = "",  # `unix://` and a path, or another scheme and an address; "" is the local socket
        *,
        ssl_context: SSLContext | None = None,  # for `tcp://` with TLS, and `https://`
        api_version: str = "",  # of the engine's API, such as `1.43`; "" asks the engine
        logins: Sequence[LoginSource] = (),  # for image registries; the first one that has a login counts
        pull_patience: float = 25.0,  # seconds for which a pull is retried
    ) -> None:
        host = docker_host or DEFAULT_HOST
        if not host.startswith(SCHEMES):
            raise ConfigError(f"DOCKER_HOST starts with one of {', '.join(SCHEMES)}")
        version = f"v{api_version.removeprefix('v')}" if api_version else "auto"
        super().__init__(partial(DockerClient, host, ssl_context, version), logins, pull_patience)

    @classmethod
    def from_settings(cls, settings: EngineAccess, logins: Sequence[LoginSource] = ()) -> Self:
        """The engine as Docker's own client would find it. Raises ConfigError if a setting is wrong."""
        context = tls_context(
            settings.docker_host, cert_path=settings.docker_cert_path, verify=bool(settings.docker_tls_verify)
        )
        version = settings.docker_api_version
        return cls(settings.docker_host, ssl_context=context, api_version=version, logins=logins)

    async def create(self, spec: ContainerSpec) -> str:
        with engine_errors(missing=ImageError):
            container = await self._client().containers.create(wire.create_config(spec))
        return container.id

    async def image_of(self, container_id: str) -> str:
        with engine_errors():
            shown = await self._container(container_id).show()
            wire.check_paths(shown)
            use = wire.image_use(shown)
        await self._used(use)
        return use.image_id

    async def read_file(self, container_id: str, path: str) -> bytes | None:
        archive = bytearray()
        try:
            with engine_errors(done=_UNREADABLE):
                async with self._client().stream("GET", f"containers/{container_id}/archive", {"path": path}) as body:
                    async for data in body.iter_chunked(STEP):
                        archive += data
                        if len(archive) > wire.MAX_FILE_ARCHIVE:
                            return None
        except EngineError as error:
            if not _NO_PATH.search(error.sentence):
                raise
        return wire.regular_file(bytes(archive))

    async def put_archive(self, container_id: str, archive: bytes) -> None:
        url = f"containers/{container_id}/archive"
        try:
            with engine_errors():
                async with self._client().stream("PUT", url, {"path": "/"}, limits=ARCHIVE, data=archive):
                    pass
        except EngineError as error:
            if not error.sentence.startswith(_NO_TARGET):
                raise
            raise DanglingLinkError from None

    async def freeze(self, container_id: str, spec: ContainerSpec) -> str:
        """Docker puts no files into a read-only root, so that it is made from an image: see docs/adr/0011.

        The image holds the job's secrets. It has no name, bears the labels of the container it was made from, and is
        removed with the job's containers.
        """
        model = self._container(container_id)
        with engine_errors():
            image = await model.commit(pause=False, timeout=ARCHIVE)
            config = wire.frozen_config(spec, image_id=image["Id"], model=container_id)
            frozen = await self._client().containers.create(config)
            await model.delete(force=True, v=True)
        return frozen.id

    async def start(self, container_id: str) -> None:
        with engine_errors():
            await self._container(container_id).start()

    async def attach(self, container_id: str, *, tty: bool) -> AsyncGenerator[OutputPiece, None]:
        """Pieces have at most 64 KiB."""
        pieces = attached(self._client(), container_id, tty=tty)
        with engine_errors():
            async with asyncio.timeout(SHORT.total):
                await anext(pieces)
        return pieces

    def output(self, container_id: str) -> AsyncIterator[OutputPiece]:
        """Pieces have at most 64 KiB."""
        return logged(self._client(), container_id)

    async def wait(self, container_id: str) -> Exit:
        container = self._container(container_id)
        with engine_errors():
            code = await _exit_code(container)
            if not code:
                return Exit(code=0)
            shown = await container.show()
            exited = wire.exit_of(code, shown)
            if wire.may_be_oom(exited, shown):
                # Docker hears of the exit and of its cause in any order: the flag can be too late.
                with suppress(TimeoutError):
                    exited = Exit(exited.code, oom_killed=await self._was_oom(container_id, shown))
            return exited

    async def _was_oom(self, container_id: str, inspected: Mapping[str, Any]) -> bool:
        async with (
            asyncio.timeout(LATE_NEWS),
            self._client().stream("GET", "events", wire.oom_filter(container_id, inspected)) as events,
        ):
            return bool(await events.readany())

    async def stop(self, container_id: str, grace: float) -> bool:
        """A process that exits in the milliseconds before the signal counts as signalled."""
        seconds = math.ceil(grace)  # Docker takes whole seconds
        container = self._container(container_id)
        running = False
        with engine_errors(done=_NOT_RUNNING):
            running = bool((await container.show())["State"]["Running"])
        if running:
            limits = ClientTimeout(total=seconds + STOP_MARGIN, sock_connect=10)
            try:
                with engine_errors(done=_NOT_RUNNING):
                    await container.stop(t=seconds, timeout=limits)
            except EngineUnavailableError as error:
                raise EngineUnansweredError(error.sentence) from None
        return running

    async def kill(self, container_id: str) -> None:
        with engine_errors(done=_NOT_RUNNING):
            await self._container(container_id).kill(timeout=SHORT)

    async def remove(self, container_id: str) -> None:
        """One that is being removed already is waited for: its processes may live until then."""
        container = self._container(container_id)
        with engine_errors(done={HTTPStatus.NOT_FOUND}):
            try:
                await container.delete(force=True, v=True, timeout=SHORT)
            except DockerError as error:
                if error.status != HTTPStatus.CONFLICT:
                    raise
                await container.wait(condition="removed", timeout=SHORT)
                await self.remove(container_id)  # the other removal may have failed

    async def find(self, labels: Mapping[str, str]) -> Sequence[ContainerInfo]:
        with engine_errors():
            found = await self._client().containers.list(all="1", filters=wire.label_filter(labels))
            return [wire.container_info(container.id, container["Labels"], container["State"]) for container in found]

    async def info(self) -> Mapping[str, str | int]:
        with engine_errors():
            return wire.figures(await self._client().system.info())

    async def offers(self) -> Offers:
        with engine_errors():
            return wire.offers(await self._client().system.info())

    def _container(self, container_id: str) -> DockerContainer:
        return self._client().containers.container(container_id)


async def _exit_code(container: DockerContainer) -> int:
    while True:
        with suppress(SocketTimeoutError):
            return wire.exit_code(await container.wait(timeout=WAIT))
