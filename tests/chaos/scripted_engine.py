"""An engine whose containers are processes, for loads that a real one would take hours for."""

import asyncio
import platform
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from stint.core.errors import EngineError, EngineUnavailableError
from stint_runner.engine.port import (
    LOG_DRIVER,
    ContainerInfo,
    ContainerSpec,
    Engine,
    EngineAccess,
    Exit,
    ImageUse,
    Offers,
    OutputPiece,
    Progress,
    unheard,
)
from tests.chaos.engine_daemon import SOCKET, STDERR, STDOUT
from tests.support.waiting import until

SCHEME: Final = "unix://"
"""Of the address at which runners and watchdogs find the daemon: its folder, as DOCKER_HOST."""
LOOK: Final = 0.1
"""Seconds between two looks at a container's output."""
_PIECE: Final = 64 * 1024


class ScriptedEngine(Engine):
    """A client of `tests.chaos.engine_daemon`. Images are all there. They hold no files, nor do containers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def _ask(self, do: str, **fields: Any) -> Any:
        try:
            reader, writer = await asyncio.open_unix_connection(self._folder / SOCKET, limit=2**24)
        except OSError as error:
            raise EngineUnavailableError(f"The engine is not reachable: {type(error).__name__}.") from None
        try:
            writer.write(msgspec.json.encode({"do": do, **fields}) + b"\n")
            line = await reader.readline()
        except OSError:
            line = b""
        finally:
            writer.close()
        if not line:
            raise EngineUnavailableError("The engine gave no answer.")
        answer = msgspec.json.decode(line)
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer["answer"]

    async def ensure_image(self, image: str, *, always: bool, progress: Progress = unheard) -> None:
        """All images are there."""

    def tell_of_images(self, used: Callable[[ImageUse], Awaitable[None]]) -> None:
        """None is ever pulled."""

    async def images(self) -> Mapping[str, bool]:
        return {}

    async def remove_image(self, image_id: str, names: Collection[str]) -> bool:  # noqa: ARG002 - the port's
        return False

    async def create(self, spec: ContainerSpec) -> str:
        command, env, labels = [*spec.entrypoint, *spec.command], list(spec.env), dict(spec.labels)
        return str(await self._ask("create", command=command, env=env, labels=labels, tty=spec.tty))

    async def image_of(self, container_id: str) -> str:  # noqa: ARG002 - the port's
        return "scripted"

    async def read_file(self, container_id: str, path: str) -> bytes | None:  # noqa: ARG002 - the port's
        return None

    async def put_archive(self, container_id: str, archive: bytes) -> None:  # noqa: ARG002 - the port's
        await self._ask("show", container_id=container_id)

    async def freeze(self, container_id: str, spec: ContainerSpec) -> str:  # noqa: ARG002 - the port's
        return container_id

    async def discard(self, labels: Mapping[str, str]) -> None:
        """`freeze` makes nothing."""

    async def frozen(self, label: str) -> Collection[str]:  # noqa: ARG002 - the port's
        return ()

    async def attach(self, container_id: str, *, tty: bool) -> AsyncGenerator[OutputPiece, None]:  # noqa: ARG002
        return self.output(container_id)

    async def start(self, container_id: str) -> None:
        await self._ask("start", container_id=container_id)

    async def output(self, container_id: str) -> AsyncGenerator[OutputPiece, None]:
        shown = await self._ask("show", container_id=container_id)
        names = {"tty": STDOUT} if shown["tty"] else {"stdout": STDOUT, "stderr": STDERR}
        try:
            files = {stream: (self._folder / container_id / name).open("rb") for stream, name in names.items()}
        except FileNotFoundError:
            raise EngineError("No such container.") from None
        waiting = asyncio.ensure_future(self.wait(container_id))
        try:
            over = False
            while not over:
                await asyncio.wait({waiting}, timeout=LOOK)
                over = waiting.done()  # and only then is what is read here the last of it
                for piece in _pieces(files):
                    yield piece
            waiting.result()
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            for file in files.values():
                file.close()

    async def wait(self, container_id: str) -> Exit:
        return Exit(await self._ask("wait", container_id=container_id))

    async def stop(self, container_id: str, grace: float) -> bool:
        return bool(await self._ask("stop", container_id=container_id, grace=grace))

    async def kill(self, container_id: str) -> None:
        await self._ask("kill", container_id=container_id)

    async def remove(self, container_id: str) -> None:
        await self._ask("remove", container_id=container_id)

    async def find(self, labels: Mapping[str, str]) -> Sequence[ContainerInfo]:
        return msgspec.convert(await self._ask("find", labels=dict(labels)), list[ContainerInfo])

    async def info(self) -> Mapping[str, str | int]:
        counts: dict[str, int] = await self._ask("count")
        engine_id = f"scripted:{self._folder.name}"
        return {**counts, "operating_system": "scripted", "architecture": platform.machine(), "engine_id": engine_id}

    async def offers(self) -> Offers:
        return Offers(runtimes=("scripted",), log_drivers=(LOG_DRIVER,), unenforced=())

    async def close(self) -> None:
        """Each request has a connection of its own."""


def from_settings(settings: EngineAccess) -> ScriptedEngine:
    """The engine that the world has told a runner of."""
    return ScriptedEngine(Path(settings.docker_host.removeprefix(SCHEME)))


def _pieces(files: Mapping[str, BinaryIO]) -> list[OutputPiece]:
    return [
        OutputPiece(stream, data)
        for stream, file in files.items()
        for data in iter(lambda: file.read(_PIECE), b"")  # noqa: B023
    ]


@asynccontextmanager
async def scripted_engine(folder: Path, slow: float = 0.0) -> AsyncIterator[ScriptedEngine]:
    """An engine for the duration of the block; its containers end with it. For `slow` see its daemon."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - a moment
    command = [sys.executable, "-m", "tests.chaos.engine_daemon", str(folder), str(slow)]
    daemon = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=DEVNULL)
    engine = ScriptedEngine(folder)
    try:
        await until(lambda: _answers(engine), seconds=20)
        yield engine
    finally:
        daemon.stdin.close()  # type: ignore[union-attr] # a pipe
        await daemon.wait()


async def _answers(engine: ScriptedEngine) -> bool:
    """Its socket is there a moment before it listens."""
    try:
        await engine.find({})
    except EngineUnavailableError:
        return False
    return True
