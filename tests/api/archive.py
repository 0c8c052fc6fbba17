"""Content for jobs, and images made for the tests."""

import base64
import gzip
import io
import tarfile
from collections.abc import Mapping
from typing import Any

import aiodocker


def tar(files: Mapping[str, str | bytes], **attributes: Any) -> bytes:
    """A plain tar; `attributes` (mode, uid, …) go for all members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def targz(files: Mapping[str, str | bytes], **attributes: Any) -> str:
    """As the field `content` wants it."""
    return "targz," + base64.b64encode(gzip.compress(tar(files, **attributes))).decode()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def build(docker_host: str, name: str, dockerfile: str, files: Mapping[str, str] | None = None) -> str:
    """Make an image on the engine of the stack; returns its name."""
    async with aiodocker.Docker(url=docker_host) as docker:
        context = io.BytesIO(tar({**(files or {}), "Dockerfile": dockerfile}))
        await docker.images.build(fileobj=context, tag=name, encoding="identity")
    return name
