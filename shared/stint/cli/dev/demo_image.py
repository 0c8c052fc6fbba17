"""Makes sure of an image: it is there, or is pulled, or (busybox only) is built from this machine's static busybox.

As a program (`python -m stint.cli.dev.demo_image`) it prints the reference and exits 0; 69 if no engine answers, 3 if
the image cannot be had. Both say why on standard error.
"""

import asyncio
import io
import os
import struct
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiodocker
import aiohttp

from stint.core.errors import EngineUnavailableError, ImageError

BUSYBOX = "busybox:latest"
EXIT_NO_IMAGE = 3
SILENCE = 20.0
"""Seconds a pull may show no progress before the registry counts as unreachable."""

_BINARIES = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
_NOT_FOUND = 404
_PT_INTERP = 3


async def ensure_image(reference: str = BUSYBOX, docker_host: str = "") -> str:
    """Make sure that the image is on the engine. Safe to repeat and to call side by side.

    Args:
        reference: the image. Only `busybox` and `busybox:latest` can be built.
        docker_host: as in DOCKER_HOST; "" finds the engine as the `docker` command does.

    Returns:
        The reference, with `:latest` where it had no tag.

    Raises:
        EngineUnavailableError: no engine answers.
        ImageError: no registry answers, and it cannot be built here.
    """
    name = reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"
    async with connect(docker_host) as docker:
        if await present(docker, name) or await pull(docker, name):
            return name
        binary = static_busybox()
        if name != BUSYBOX or binary is None:
            hint = " and there is no static busybox to build it from" if name == BUSYBOX else ""
            raise ImageError(f"The image {name} cannot be pulled{hint}.")
        await build(docker, name, {"rootfs.tar": busybox_rootfs(binary)}, _DOCKERFILE)
        return name


@asynccontextmanager
async def connect(docker_host: str = "") -> AsyncIterator[aiodocker.Docker]:
    """A client of an engine that has answered.

    Raises:
        EngineUnavailableError: none answers.
    """
    try:
        docker = aiodocker.Docker(url=docker_host or None)
    except (AssertionError, ValueError):  # how the client says that there is no socket, or no such scheme
        raise EngineUnavailableError("There is no container engine here.") from None
    async with docker:
        try:
            async with asyncio.timeout(SILENCE):
                await docker.version()
        except (aiodocker.DockerError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineUnavailableError("The container engine does not answer.") from error
        yield docker


async def present(docker: aiodocker.Docker, reference: str) -> bool:
    """Whether the engine has the image."""
    try:
        await docker.images.inspect(reference)
    except aiodocker.DockerError as error:
        if error.status != _NOT_FOUND:
            raise EngineUnavailableError(f"The container engine answered {error.status}.") from error
        return False
    return True


async def pull(docker: aiodocker.Docker, reference: str) -> bool:
    """Try to pull the image; False if no registry gives it, or none makes progress for `SILENCE` seconds."""
    try:
        async with asyncio.timeout(SILENCE) as bound:
            async for _ in docker.images.pull(reference, stream=True):
                bound.reschedule(asyncio.get_running_loop().time() + SILENCE)
    except (aiodocker.DockerError, TimeoutError):
        return False
    return await present(docker, reference)


async def build(docker: aiodocker.Docker, tag: str, files: Mapping[str, bytes | Path], dockerfile: str) -> None:
    """Build an image from files in the context's top folder. Files given by path keep their mode.

    Raises:
        ImageError: the engine could not build it.
    """
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, content in {**files, "Dockerfile": dockerfile.encode()}.items():
            if isinstance(content, Path):
                tar.add(content.resolve(), name)
            else:
                _add(tar, _member(name, size=len(content)), content)
    context.seek(0)
    try:
        await docker.images.build(fileobj=context, tag=tag, encoding="identity")
    except aiodocker.DockerError as error:
        raise ImageError(f"The image {tag} cannot be built: {error.message}") from error


def static_busybox() -> Path | None:
    """This machine's busybox, if it has one that needs no shared library."""
    return next((path for path in _BINARIES if path.is_file() and _is_static(path.read_bytes())), None)


def busybox_rootfs(binary: Path) -> bytes:
    """A plain tar of a small root: busybox and its applets in /bin, /tmp for everybody, /etc/passwd with root."""
    applets = subprocess.run([binary, "--list"], check=True, capture_output=True, text=True).stdout.split()
    rootfs = io.BytesIO()
    with tarfile.open(fileobj=rootfs, mode="w") as tar:
        for folder, mode in _FOLDERS.items():
            _add(tar, _member(folder, kind=tarfile.DIRTYPE, mode=mode))
        for name, text in _FILES.items():
            _add(tar, _member(name, size=len(text)), text)
        content = binary.read_bytes()
        _add(tar, _member("bin/busybox", size=len(content), mode=0o755), content)
        for applet in sorted(set(applets) - {"busybox"}):
            link = _member(f"bin/{applet}", kind=tarfile.SYMTYPE, mode=0o777)
            link.linkname = "busybox"
            _add(tar, link)
    return rootfs.getvalue()


_DOCKERFILE = 'FROM scratch\nADD rootfs.tar /\nENV PATH=/bin\nCMD ["sh"]\n'
_FOLDERS = {"bin": 0o755, "dev": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777, "usr": 0o755, "var": 0o755}
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
}


def _member(name: str, *, size: int = 0, kind: bytes = tarfile.REGTYPE, mode: int = 0o644) -> tarfile.TarInfo:
    """Owned by root and dated 1970, so that the same files make the same image."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, size, mode
    return info


def _add(tar: tarfile.TarFile, info: tarfile.TarInfo, content: bytes = b"") -> None:
    tar.addfile(info, io.BytesIO(content))


def _is_static(elf: bytes) -> bool:
    """Whether it is a 64-bit ELF file that names no interpreter (System V ABI, program header table)."""
    if elf[:5] != b"\x7fELF\x02":
        return False
    order = "<" if elf[5] == 1 else ">"
    (offset,) = struct.unpack_from(f"{order}Q", elf, 32)
    size, count = struct.unpack_from(f"{order}HH", elf, 54)
    kinds = (struct.unpack_from(f"{order}I", elf, offset + size * n)[0] for n in range(count))
    return _PT_INTERP not in kinds


async def _main() -> int:
    try:
        print(await ensure_image(*sys.argv[1:2]))  # noqa: T201 - it is a program here
    except EngineUnavailableError as error:
        print(error.sentence, file=sys.stderr)  # noqa: T201 - it is a program here
        return os.EX_UNAVAILABLE
    except ImageError as error:
        print(error.sentence, file=sys.stderr)  # noqa: T201 - it is a program here
        return EXIT_NO_IMAGE
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
