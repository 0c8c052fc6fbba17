"""The port to a container engine."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from stint.core.limits import Limits

USER_ID: Final = 2001
"""User and group of every job's process."""


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A container to create, in Stint's own words; `stint_runner.engine.docker` turns it into Docker's.

    Attributes:
        image: as the payload named it.
        entrypoint, command: replace the image's where not empty.
        working_directory: replaces the image's where not "".
        env: `NAME=value`, the last of a name wins.
        tty: a terminal, and one output stream.
        labels: how the container is found again.
        network: the engine's network mode.
        binds: host path to container path, mounted read-only.
        hardened: no new privileges, no capabilities.
        limits: of time and of memory, and how many processes. Its time-out is not the engine's to keep.
        read_only: the root file system cannot be written to.
    """

    image: str
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    working_directory: str = ""
    env: Sequence[str] = ()
    tty: bool = False
    labels: Mapping[str, str] = {}
    network: str = "bridge"
    binds: Mapping[str, str] = {}
    hardened: bool = True
    limits: Limits = Limits()
    read_only: bool = False


class OutputPiece(msgspec.Struct, frozen=True):
    """Bytes as the container wrote them; `stream` is `stdout`, `stderr`, or `tty`."""

    stream: str
    data: bytes


class Exit(msgspec.Struct, frozen=True):
    """How a container ended: its exit status, and whether the engine saw it run out of memory."""

    code: int
    oom_killed: bool = False


class ContainerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A container as a listing shows it: `running` now, `started` at some time."""

    container_id: str
    labels: Mapping[str, str]
    running: bool
    started: bool


class ImageUse(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a job is about to use.

    Attributes:
        image_id: the engine's.
        name: the reference by which it was had, as the engine lists it.
        is_new: the engine did not have this image before: it was pulled just now.
        is_new_name: the name did not mean this image before.
    """

    image_id: str
    name: str
    is_new: bool = False
    is_new_name: bool = False


class Engine(Protocol):
    """A container engine.

    A container's life is `ensure_image`, `create`, any number of `read_file` and `put_archive`, perhaps `freeze`,
    `attach`, `start`, `wait` while the output is read, `remove`. `stop`, `kill` and `remove` may come at any moment,
    twice, and on a container that has exited or is gone: they then do nothing.

    Everything raises `EngineUnavailableError` when the engine cannot be reached or a gateway before it says so (502 to
    504), and `EngineError` with the engine's own words when it refuses: Docker answers 500 to faults of the job itself.
    """

    async def ensure_image(self, image: str, *, always: bool) -> None:
        """Make sure that the image is there; pull it if it is not, or always.

        Raises:
            ImageError: it cannot be had. Says what was tried; "not found" fails at once, time-outs are retried 25 s.
        """
        ...

    def tell_of_images(self, used: Callable[[ImageUse], Awaitable[None]]) -> None:
        """Call this for each image that a job is about to use. It must not raise."""
        ...

    async def images(self) -> Mapping[str, bool]:
        """All images by id, and whether they have a container, running or not, whoever made it."""
        ...

    async def remove_image(self, image_id: str, names: Collection[str]) -> bool:
        """Remove an image that has no container, and no names but these (see `ImageUse.name`).

        Returns:
            Whether it is gone. It stays whole if it is in use, or has a name of somebody else's.
        """
        ...

    async def create(self, spec: ContainerSpec) -> str:
        """Create a container, returns its id. It runs as 2001:2001 and does not start yet.

        An image that was removed since `ensure_image` is had again.

        If this call is cancelled, a container that the engine made all the same can be found by its labels.

        Raises:
            ImageError: the image is not there.
        """
        ...

    async def read_file(self, container_id: str, path: str) -> bytes | None:
        """A regular file of at most 1 MiB out of a created container, None if there is none such."""
        ...

    async def put_archive(self, container_id: str, archive: bytes) -> None:
        """Unpack a tar, plain or gzipped, over `/` of a created container, owners and modes as in the archive."""
        ...

    async def freeze(self, container_id: str, spec: ContainerSpec) -> str:
        """Put a container as `spec` says, with the files of a created one, in that one's place; returns its id.

        For a read-only root, into which nothing can be put any more. If this call fails or is cancelled, whatever it
        made can be found by the labels: containers, and what `discard` removes.
        """
        ...

    async def discard(self, labels: Mapping[str, str]) -> None:
        """Remove what `freeze` needed beside the containers with these labels, once they are gone. Safe to repeat."""
        ...

    async def attach(self, container_id: str, *, tty: bool) -> AsyncGenerator[OutputPiece, None]:
        """The output of a container that is not started yet: all of it, as it comes, until it has exited.

        Whoever does not read it holds the container up; whoever closes it lets the container go. `tty` is as in the
        container's spec.
        """
        ...

    async def start(self, container_id: str) -> None:
        """Start it. If this raises `EngineUnavailableError` it may have been started, or will be in a moment."""
        ...

    def output(self, container_id: str) -> AsyncIterator[OutputPiece]:
        """The output of a started container from its beginning, as it comes, until it has exited.

        It comes out of the engine's log: reading slowly does not slow the container down.

        Raises:
            LogRotatedError: at its end, if the log may not have kept all of it.
        """
        ...

    async def wait(self, container_id: str) -> Exit:
        """Wait for its end."""
        ...

    async def stop(self, container_id: str, grace: float) -> bool:
        """SIGTERM (or the image's own signal), and SIGKILL after `grace` seconds. Returns when it has exited.

        False if it had exited before any signal.
        """
        ...

    async def kill(self, container_id: str) -> None:
        """SIGKILL."""
        ...

    async def remove(self, container_id: str) -> None:
        """Remove it with its volumes, running or not."""
        ...

    async def find(self, labels: Mapping[str, str]) -> Sequence[ContainerInfo]:
        """All containers, running or not, with these labels; "" as a value is any."""
        ...

    async def info(self) -> Mapping[str, str | int]:
        """The engine's figures.

        They are `containers`, `containers_running`, `containers_paused`, `containers_stopped`, `images`, `mem_total`,
        `architecture` and `operating_system`.
        """
        ...

    async def engine_id(self) -> str:
        """The engine's own id, the same for all who use it, and after a restart."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...
