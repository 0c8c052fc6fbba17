"""The same containers without Stint: aiodocker's own calls, one after another."""

import asyncio
import io
import tarfile
from collections.abc import Sequence
from typing import Final

import aiodocker

IMAGE: Final = "busybox"


class Bare:
    """What a job needs of the engine, and nothing else."""

    def __init__(self, docker: aiodocker.Docker) -> None:
        self._docker = docker
        self._archives = archives()

    async def job(self, run: Sequence[str] = ("true",)) -> None:
        """Create, fill, start, wait, read the output, remove."""
        container = await self._docker.containers.create({"Image": IMAGE, "Cmd": list(run)})
        for archive in self._archives:
            await container.put_archive("/", archive)  # type: ignore[no-untyped-call] # aiodocker has no type for it
        await container.start()
        await container.wait()
        await container.log(stdout=True, stderr=True)
        await container.delete(v=True)

    async def jobs(self, count: int, width: int) -> None:
        """That many jobs, `width` at a time."""
        slots = asyncio.Semaphore(width)

        async def one() -> None:
            async with slots:
                await self.job()

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one())


def archives() -> list[bytes]:
    """What is put into each container, as Stint puts a user and secrets."""
    return [_archive("etc/passwd", b"root:x:0:0::/:/bin/sh\n"), _archive("secrets.yml", b"a: b\n")]


def _archive(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
