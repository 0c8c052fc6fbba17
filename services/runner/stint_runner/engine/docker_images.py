"""The images of a Docker engine: pulled, and removed."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import stamina
import structlog
from aiohttp.http_exceptions import LineTooLong

from stint.core.errors import EngineError, EngineUnavailableError, ImageError
from stint.core.names.headers import LABEL_READ_ONLY
from stint_runner.engine import docker_wire as wire
from stint_runner.engine.docker_client import DockerClient, engine_errors
from stint_runner.engine.port import ImageUse, Progress, PullError, unheard
from stint_runner.engine.pull_progress import PullProgress
from stint_runner.registry.logins import LoginError, LoginSource, RegistryLogin
from stint_runner.registry.references import Reference, all_attempts_failed, is_transient, own_names, parse_reference

log = structlog.get_logger()

PULL: Final = aiohttp.ClientTimeout(sock_connect=10, sock_read=120)  # two minutes without progress count as a time-out
_STAYS: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})
"""404: somebody else removed it; 409: it is in use, or has other names."""
TURN: Final = 3600.0  # seconds that a pull waits for others: Docker downloads three layers at a time, of all pulls


class DockerImages:
    """The part of `Engine` that deals with images. A pull is retried for `patience` seconds.

    The engine is connected to with the first call, and again with the first one after `close`.
    """

    def __init__(self, connect: Callable[[], DockerClient], logins: Sequence[LoginSource], patience: float) -> None:
        self._connect = connect
        self._docker: DockerClient | None = None
        self._logins = logins
        self._patience = patience
        self._image_used: Callable[[ImageUse], Awaitable[None]] | None = None

    def _client(self) -> DockerClient:
        if self._docker is None:
            self._docker = self._connect()
        return self._docker

    async def close(self) -> None:
        docker, self._docker = self._docker, None
        if docker is not None:
            await docker.close()

    async def ensure_image(self, image: str, *, always: bool, progress: Progress = unheard) -> None:
        """Docker Hub is meant where the name has no `/`."""
        reference = parse_reference(image)
        found = await self._id(str(reference))
        if found and not always:
            await self._used(ImageUse(image_id=found, name=reference.listed))
            return
        before = await self._ids()
        await self._pull(reference, progress)
        pulled = await self._id(str(reference))
        is_new, is_new_name = pulled not in before, pulled != found
        await self._used(ImageUse(image_id=pulled, name=reference.listed, is_new=is_new, is_new_name=is_new_name))

    def tell_of_images(self, used: Callable[[ImageUse], Awaitable[None]]) -> None:
        self._image_used = used

    async def _used(self, use: ImageUse) -> None:
        if self._image_used and use.image_id:
            await self._image_used(use)

    async def images(self) -> Mapping[str, bool]:
        ids = await self._ids()
        with engine_errors():
            used = {str(container["ImageID"]) for container in await self._client().containers.list(all="1")}
        return {image_id: image_id in used for image_id in ids}

    async def remove_image(self, image_id: str, names: Collection[str]) -> bool:
        inspected = await self._inspect(image_id)
        if inspected is None:
            return True
        present = own_names(inspected.get("RepoTags") or (), inspected.get("RepoDigests") or (), names)
        if present is None:
            return False
        # Docker removes by id what has one name at most, and checks all before it touches anything.
        for name in [*present[1:], image_id]:
            with engine_errors(done=_STAYS):
                await self._client().images.delete(name, noprune=True)
        return await self._inspect(image_id) is None

    async def discard(self, labels: Mapping[str, str]) -> None:
        """What Docker does not list is found by its container.

        Docker 26 with containerd's image store lists no image of which it has a layer only unpacked, and none that was
        made from one.
        """
        client = self._client()
        with engine_errors():
            found = {str(image["Id"]) for image in await client.images.list(filters=wire.frozen_images(labels))}
            containers = await client.containers.list(all="1", filters=wire.label_filter(labels))
        for container in containers:
            with engine_errors(done={HTTPStatus.NOT_FOUND}):
                shown = await container.show()
                if shown["HostConfig"]["VolumesFrom"]:  # see `frozen_config`; a job can name an image by its id, too
                    found.add(str(shown["Image"]))
        for image_id in found:
            with engine_errors(done={HTTPStatus.NOT_FOUND}):  # somebody else's removal was first
                await client.images.delete(image_id, force=True, noprune=True)  # its parents are others'

    async def frozen(self, label: str) -> Collection[str]:
        """Only of images for a read-only root: somebody else may have committed another job's container."""
        with engine_errors():
            images = await self._client().images.list(filters=wire.frozen_images({label: "", LABEL_READ_ONLY: ""}))
            return {str(image["Labels"][label]) for image in images}

    async def _ids(self) -> frozenset[str]:
        with engine_errors():
            return frozenset(str(image["Id"]) for image in await self._client().images.list(all="1"))

    async def _id(self, name: str) -> str:
        inspected = await self._inspect(name)
        with engine_errors():
            return str(inspected["Id"]) if inspected else ""

    async def _inspect(self, name: str) -> dict[str, Any] | None:
        try:
            with engine_errors(missing=ImageError):
                return await self._client().images.inspect(name)
        except ImageError:
            return None

    async def _pull(self, reference: Reference, progress: Progress) -> None:
        """Pull once others have left room. It asks anew each time: Docker does not say when it has its turn."""
        login, remarks = await self._login(reference.registry)
        errors: list[str] = []
        now = asyncio.get_running_loop().time
        until = now() + TURN
        again = stamina.AsyncRetryingCaller(attempts=10, timeout=self._patience, wait_initial=0.1, wait_jitter=0.1)
        with suppress(ImageError):  # its text is the last of the errors
            while now() < until:
                if await again(_worth_another_try, self._attempt, reference, login, progress, errors):
                    return
            errors.append("the engine had other pulls to do for an hour")
        raise PullError(all_attempts_failed(errors, *remarks), last=errors[-1])

    async def _login(self, registry: str) -> tuple[RegistryLogin | None, list[str]]:
        """The login, and remarks on it for the error of a pull that fails: many images need no login."""
        try:
            for source in self._logins:
                if (login := await source.login(registry)) is not None:
                    return login, []
        except LoginError as error:
            log.warning("no registry login", registry=registry, error=error.sentence)
            return None, [f"Pulled without a login: {error.sentence}"]
        return None, []

    async def _attempt(
        self, reference: Reference, login: RegistryLogin | None, progress: Progress, errors: list[str]
    ) -> bool:
        """As `_pull_once`. An error is appended to `errors` and raised, in the engine's words without the login."""
        try:
            return await self._pull_once(reference, login, progress)
        except EngineUnavailableError:
            raise
        except EngineError as error:
            errors.append(login.hidden_in(str(error)) if login else str(error))
            raise ImageError(errors[-1]) from None

    async def _pull_once(self, reference: Reference, login: RegistryLogin | None, progress: Progress) -> bool:
        """Pull, or return False if nothing happens because other pulls come first.

        Aiodocker's own pull takes a connection that breaks for the end.
        """
        parameters = {"fromImage": reference.pull_name, "tag": reference.pull_tag}
        headers = {"X-Registry-Auth": login.header(reference.registry)} if login else {}
        pull = PullProgress()
        with engine_errors():
            try:
                async with self._client().stream(
                    "POST", "images/create", parameters, limits=PULL, headers=headers
                ) as body:
                    async for line in body:
                        progress(pull.after(line))
            except LineTooLong:
                raise EngineError("the engine's news of the pull is too long") from None
            except aiohttp.SocketTimeoutError:
                if pull.waits:
                    return False
                raise EngineError("the pull timed out") from None
        return True


def _worth_another_try(error: Exception) -> bool:
    return isinstance(error, ImageError) and is_transient(str(error))
