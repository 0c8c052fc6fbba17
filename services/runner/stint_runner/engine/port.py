"""The port to a container engine."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from stint.core.errors import EngineError, ImageError
from stint.core.submission.limits import Limits

USER_ID: Final = 2001  # user and group of every job's process
MAX_FILE: Final = 2**20  # bytes of a file that is read out of a container
LOG_DRIVER: Final = "local"  # the engine's log driver of every job's container

Progress = Callable[[float], object]  # called with how much is done, from 0 to 1


class PullError(ImageError):
    """An image could not be pulled. `last` is what the engine said of the last attempt."""

    def __init__(self, sentence: str, last: str = "") -> None:
        super().__init__(sentence)
        self.last = last


class DanglingLinkError(EngineError):
    """A hard link in the archive leads to a file that is not there."""


def unheard(_done: float) -> None:
    """Report to nobody."""


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A container to create, in Stint's terms; `stint_runner.engine.docker_wire` translates it for Docker."""

    image: str
    entrypoint: Sequence[str] = ()  # replaces the image's where not empty
    command: Sequence[str] = ()  # likewise
    working_directory: str = ""  # replaces the image's where not ""
    env: Sequence[str] = ()  # `NAME=value`, the last of a name wins
    tty: bool = False  # a terminal, and one output stream
    labels: Mapping[str, str] = {}  # by which the container is found
    network: str = "bridge"  # the engine's network mode
    runtime: str = ""  # the OCI runtime, "" for the engine's default
    binds: Mapping[str, str] = {}  # host path to container path, mounted read-only
    hardened: bool = True  # no new privileges, no capabilities
    limits: Limits = Limits()  # of memory, processors and processes. The engine does not enforce the time-out
    read_only: bool = False  # the root file system cannot be written to


class OutputPiece(msgspec.Struct, frozen=True):
    """Bytes that the container wrote; `stream` is `stdout`, `stderr`, or `tty`."""

    stream: str
    data: bytes


class Exit(msgspec.Struct, frozen=True):
    """How a container ended: its exit status, and whether it ran out of memory."""

    code: int
    oom_killed: bool = False


class ContainerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A container as a listing shows it: `started` now or at some time."""

    container_id: str
    labels: Mapping[str, str]
    started: bool


class ImageUse(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a job is about to use."""

    image_id: str
    name: str  # the reference by which it was pulled or found, as the engine lists it
    is_new: bool = False  # the engine did not have this image before: it was pulled just now
    is_new_name: bool = False  # the name did not mean this image before


class Offers(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is configured with."""

    runtimes: Collection[str]  # the names of its OCI runtimes
    log_drivers: Collection[str]
    unenforced: Collection[str]  # limits that it ignores, of `memory`, `cpus` and `pids`


class EngineAccess(Protocol):
    """Where an engine is: the settings of a runner, or what its watchdog is told of them. See `EngineSettings`."""

    docker_host: str
    docker_cert_path: str
    docker_tls_verify: str
    docker_api_version: str


class Engine(Protocol):
    """A container engine.

    A container's life is `create` (and `ensure_image`, where the image is missing or old), any number of `read_file`
    and `put_archive`, perhaps `freeze`, `attach`, `start`, `wait` while the output is read, `remove`. `stop`, `kill`
    and `remove` may come at any moment, twice, and on a container that has exited or is gone: they then do nothing.

    Every method raises `EngineUnavailableError` if the engine cannot be reached or a gateway before it answers 502 to
    504, and `EngineError` with the engine's words if it refuses: Docker answers 500 to faults of the job itself.
    """

    async def ensure_image(self, image: str, *, always: bool, progress: Progress = unheard) -> None:
        """Make sure that the image is there: pull it if it is missing, or always. A pull calls `progress`.

        Raises:
            ImageError: it is not a reference.
            PullError: it cannot be pulled. Lists the attempts; "not found" is final, time-outs are retried for 25 s.
        """

    def tell_of_images(self, used: Callable[[ImageUse], Awaitable[None]]) -> None:
        """Call this for each image that a job is about to use. It must not raise."""

    async def images(self) -> Mapping[str, bool]:
        """All images by id, and whether they have a container, running or not, whoever made it."""

    async def remove_image(self, image_id: str, names: Collection[str]) -> bool:
        """Remove an image that has no container, and no names but these (see `ImageUse.name`).

        Returns whether it is gone. It stays whole if it is in use, or has a name of somebody else's.
        """

    async def create(self, spec: ContainerSpec) -> str:
        """Create a container, which runs as 2001:2001, and return its id. Raises ImageError if the image is not there.

        If this call is cancelled, the engine may create the container all the same: it can be found by its labels.
        """

    async def image_of(self, container_id: str) -> str:
        """The id of the image that a container was created from, which counts as a use; "" if images have no ids.

        Raises:
            EngineError: also if the container must not be started, because that would hang.
        """

    async def read_file(self, container_id: str, path: str) -> bytes | None:
        """Read a regular file of at most 1 MiB from a created container; None if there is no such file."""

    async def put_archive(self, container_id: str, archive: bytes) -> None:
        """Unpack a tar, plain or gzipped, at `/` of a created container, with the archive's owners and modes.

        Raises DanglingLinkError if a hard link in it leads to no file.
        """

    async def freeze(self, container_id: str, spec: ContainerSpec) -> str:
        """Replace a created container by one with the same files and `spec`; returns its id.

        For a read-only root, into which files cannot be put. If this call fails or is cancelled, what it created can
        be found by the labels: containers, and what `discard` removes.
        """

    async def discard(self, labels: Mapping[str, str]) -> None:
        """Remove what `freeze` created besides containers with these labels, once they are gone. Safe to repeat."""

    async def frozen(self, label: str) -> Collection[str]:
        """The values of this label of what `freeze` has left besides containers, which may have gone before."""

    async def attach(self, container_id: str, *, tty: bool) -> AsyncGenerator[OutputPiece, None]:
        """The output of a container that is not started yet: all of it, as it comes, until it has exited.

        A container whose output is not read blocks, until this is closed. `tty` is as in the container's spec.
        """

    async def start(self, container_id: str) -> None:
        """Start it. If this raises `EngineUnavailableError`, it may have been started, or be started in a moment."""

    def output(self, container_id: str) -> AsyncIterator[OutputPiece]:
        """The output of a started container from its beginning, as it comes, until it has exited.

        It is read from the engine's log: reading slowly does not slow the container down. At its end it raises
        LogRotatedError if the log may not have kept all of it.
        """

    async def wait(self, container_id: str) -> Exit:
        """Wait for its end."""

    async def stop(self, container_id: str, grace: float) -> bool:
        """SIGTERM (or the image's own signal), and SIGKILL after `grace` seconds. Returns when it has exited.

        False if it had exited before any signal. Raises EngineUnansweredError if it may have been signalled.
        """

    async def kill(self, container_id: str) -> None:
        """SIGKILL."""

    async def remove(self, container_id: str) -> None:
        """Remove it with its volumes, running or not. It is gone afterwards, whoever else removes it."""

    async def find(self, labels: Mapping[str, str]) -> Sequence[ContainerInfo]:
        """List all containers, running or not, with these labels; the value "" matches any."""

    async def info(self) -> Mapping[str, str | int]:
        """The engine's figures.

        They are `containers`, `containers_running`, `containers_paused`, `containers_stopped`, `images`, `mem_total`,
        `architecture`, `operating_system` and `engine_id`, which is the same for all who use it, and after a restart.
        """

    async def offers(self) -> Offers:
        """What the engine is configured with."""

    async def close(self) -> None:
        """Close the connection."""
