"""NATS and OpenBao in containers, which all tests of a session share."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiodocker
from testcontainers.core.container import DockerContainer

from stint.cli.dev.demo_image import connect

LABEL = "stint.test"
OWNER = f"{socket.gethostname()}/{os.getpid()}"
"""Whose container it is: the value of `LABEL`."""

_GONE = (404, 409)
"""The engine's answers when somebody else removed, or is removing, the container."""


@dataclass(frozen=True)
class OpenBao:
    """A running server that tests share: take paths and role names of your own."""

    address: str
    root_token: str = field(repr=False)


@contextlib.asynccontextmanager
async def started(container: DockerContainer, port: int) -> AsyncIterator[str]:
    """Start a container, wait until it is ready, yield host:port of a port of it, and remove it whatever happens."""
    container.with_kwargs(labels={LABEL: OWNER}).with_exposed_ports(port)
    try:
        await asyncio.to_thread(container.start)
        yield f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"
    finally:
        await asyncio.to_thread(container.stop)


async def sweep() -> None:
    """Remove the containers that killed test runs of this machine left behind."""
    async with connect() as docker:
        for container in await docker.containers.list(all=True, filters={"label": [LABEL]}):
            host, _, pid = container["Labels"][LABEL].rpartition("/")
            if host == socket.gethostname() and not _alive(int(pid)):
                await _remove(container)


async def _remove(container: aiodocker.containers.DockerContainer) -> None:
    try:
        await container.delete(force=True, v=True)
    except aiodocker.DockerError as error:
        if error.status not in _GONE:
            raise


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
