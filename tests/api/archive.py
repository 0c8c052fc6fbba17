"""Content for jobs, and images made for the tests."""

import base64
import gzip
import io
from collections.abc import Mapping
from typing import Any

import aiodocker

from tests.support.tarballs import tar_of


def targz(files: Mapping[str, str | bytes], **attributes: Any) -> str:
    """As the field `content` wants it."""
    return "targz," + base64.b64encode(gzip.compress(tar_of(files, **attributes))).decode()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def build(docker_host: str, name: str, dockerfile: str, files: Mapping[str, str] | None = None) -> str:
    """Make an image on the engine of the stack; returns its name."""
    async with aiodocker.Docker(url=docker_host) as docker:
        context = io.BytesIO(tar_of({**(files or {}), "Dockerfile": dockerfile}))
        await docker.images.build(fileobj=context, tag=name, encoding="identity")
    return name
