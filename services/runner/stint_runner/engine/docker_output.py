"""A container's output as Docker gives it: to whoever is attached, or out of its log."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import aiohttp

from stint.core.errors import EngineUnavailableError, LogRotatedError
from stint_runner.engine.docker_client import ENDLESS, STEP, DockerClient
from stint_runner.engine.docker_errors import engine_errors
from stint_runner.engine.docker_frames import FrameParser, LogMeter, merged
from stint_runner.engine.docker_wire import ENDED
from stint_runner.engine.port import OutputPiece

_BOTH: Final = {"stdout": "1", "stderr": "1"}


async def attached(client: DockerClient, container_id: str, *, tty: bool) -> AsyncGenerator[OutputPiece, None]:
    """What a container writes from now on. The first piece is empty: it says that the connection stands."""
    url, parameters = f"containers/{container_id}/attach", {"stream": "1", **_BOTH}
    with engine_errors():
        async with client.stream("POST", url, parameters, limits=ENDLESS) as body:
            yield OutputPiece("tty" if tty else "stdout", b"")
            async with aclosing(_pieces(body, LogMeter(), tty=tty)) as pieces:
                async for piece in pieces:
                    yield piece
        # This connection ends likewise when the engine does, before the container's start too.
        if (await client.containers.container(container_id).show())["State"]["Status"] not in ENDED:
            raise EngineUnavailableError("The container's output broke off.")


async def logged(client: DockerClient, container_id: str) -> AsyncGenerator[OutputPiece, None]:
    """What stands in a container's log, and what it writes until it exits.

    Raises:
        EngineUnavailableError: also if the container is not started yet.
        LogRotatedError: at the end, if the log may have lost part of it.
    """
    url, parameters = f"containers/{container_id}/logs", {"follow": "1", **_BOTH}
    meter = LogMeter()
    with engine_errors():
        shown = await client.containers.container(container_id).show()
        if shown["State"]["Status"] == "created":
            raise EngineUnavailableError("The container is not started yet.")
        tty = shown["Config"]["Tty"]
        async with (
            client.stream("GET", url, parameters, limits=ENDLESS) as body,
            aclosing(_pieces(body, meter, tty=tty)) as pieces,
        ):
            async for piece in pieces:
                yield piece
    if meter.may_have_rotated:
        raise LogRotatedError


async def _pieces(body: aiohttp.StreamReader, meter: LogMeter, *, tty: bool) -> AsyncGenerator[OutputPiece, None]:
    parser = FrameParser()
    async for data in body.iter_chunked(STEP):
        if tty:
            meter.terminal(data)
            yield OutputPiece("tty", data)
            continue
        # The engine makes a frame of each line: pieces that came together are passed on together.
        for piece in merged(meter.frames(parser.feed(data))):
            yield piece
    if not parser.between_frames:
        raise EngineUnavailableError("The container's output broke off.")
