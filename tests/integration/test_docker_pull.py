"""Pulls on a real Docker engine, from a registry whose answers the test writes."""

import gzip
import hashlib
import json
import os
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import stamina
from aiodocker import Docker
from aiohttp import web

from stint.errors import EngineUnavailableError, ImageError
from stint_runner.docker import DockerEngine
from stint_runner.images import is_transient
from stint_runner.overlay import Member, overlay

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
HOST = os.environ.get("DOCKER_HOST", "")


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """One image under any name; the first pulls get the `failures`, one each."""

    def __init__(self) -> None:
        layer = overlay(Member(path="file", data=uuid.uuid4().bytes, mode=0o644, owner=0))
        packed = gzip.compress(layer)
        config = json.dumps({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }).encode()  # fmt: skip
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "size": len(config), "digest": digest(config)},
            "layers": [{"mediaType": LAYER_TYPE, "size": len(packed), "digest": digest(packed)}],
        }).encode()  # fmt: skip
        self._blobs = {digest(config): config, digest(packed): packed}
        self.failures: list[tuple[int, str]] = []
        self._failing: tuple[int, str] | None = None
        self.blobs_fail = False
        self.pulls = 0

    async def answer(self, request: web.Request) -> web.Response:
        if "/manifests/" in request.path:
            return self._failure() if self._failing else self._manifest(request.method)
        if "/blobs/" in request.path:
            blob = None if self.blobs_fail else self._blobs.get(request.path.rpartition("/")[2])
            return web.Response(status=404) if blob is None else web.Response(body=blob)
        self.pulls += 1
        self._failing = self.failures.pop(0) if self.failures else None
        return web.json_response({})

    def _failure(self) -> web.Response:
        status, code = self._failing or (0, "")
        return web.json_response({"errors": [{"code": code, "message": "no"}]}, status=status)

    def _manifest(self, method: str) -> web.Response:
        headers = {"Docker-Content-Digest": digest(self.manifest), "Content-Type": MANIFEST_TYPE}
        body = self.manifest if method == "GET" else b""
        return web.Response(body=body, headers=headers | {"Content-Length": str(len(self.manifest))})


@pytest.fixture
async def registry() -> AsyncIterator[tuple[Registry, str]]:
    """The registry, and an image's name in it."""
    registry = Registry()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", registry.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield registry, f"127.0.0.1:{runner.addresses[0][1]}/stint/{uuid.uuid4().hex}"
    await runner.cleanup()


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(HOST)
    yield engine
    await engine.close()


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(testing=True, attempts=4, cap=True):
        yield


async def forget(image: str) -> None:
    async with Docker(HOST or "unix:///var/run/docker.sock") as docker:
        await docker.images.delete(image, force=True)


async def test_pulled_once_and_always(engine: DockerEngine, registry: tuple[Registry, str]) -> None:
    served, image = registry
    try:
        await engine.ensure_image(image, always=False)
        assert served.pulls == 1
        await engine.ensure_image(f"{image}:latest", always=False)
        assert served.pulls == 1
        await engine.ensure_image(image, always=True)
        assert served.pulls == 2
    finally:
        await forget(image)


async def test_by_digest(engine: DockerEngine, registry: tuple[Registry, str]) -> None:
    served, image = registry
    pinned = f"{image}:other@{digest(served.manifest)}"
    try:
        await engine.ensure_image(pinned, always=False)
        await engine.ensure_image(pinned, always=False)
        assert served.pulls == 1
    finally:
        await forget(f"{image}@{digest(served.manifest)}")


async def test_a_registry_that_is_busy_is_asked_again(engine: DockerEngine, registry: tuple[Registry, str]) -> None:
    served, image = registry
    served.failures = [(503, ""), (502, "")]
    try:
        await engine.ensure_image(image, always=False)
        assert served.pulls == 3
    finally:
        await forget(image)


async def test_each_attempt_is_told(engine: DockerEngine, registry: tuple[Registry, str]) -> None:
    served, image = registry
    served.failures = [(503, "")] * 9
    with pytest.raises(ImageError) as caught:
        await engine.ensure_image(image, always=False)
    lines = str(caught.value).splitlines()
    assert lines[0] == "All attempts fail:"
    assert [line.partition(":")[0] for line in lines[1:]] == ["#1", "#2", "#3", "#4"]
    assert served.pulls == 4


@pytest.mark.parametrize(
    ("status", "code"), [(401, "UNAUTHORIZED"), (403, "DENIED"), (404, "NAME_UNKNOWN"), (404, "MANIFEST_UNKNOWN")]
)
async def test_a_refusal_is_final(engine: DockerEngine, registry: tuple[Registry, str], status: int, code: str) -> None:
    served, image = registry
    served.failures = [(status, code)]
    with pytest.raises(ImageError, match="All attempts fail:\n#1: ") as caught:
        await engine.ensure_image(image, always=False)
    assert len(str(caught.value).splitlines()) == 2
    assert served.pulls == 1


async def test_an_error_inside_the_progress(engine: DockerEngine, registry: tuple[Registry, str]) -> None:
    served, image = registry
    served.blobs_fail = True
    with pytest.raises(ImageError, match=r"#1: .*blob"):
        await engine.ensure_image(image, always=False)


async def test_no_such_host_is_final(engine: DockerEngine) -> None:
    with pytest.raises(ImageError) as caught:
        await engine.ensure_image("stint.invalid/image", always=False)
    assert len(str(caught.value).splitlines()) == 2


async def test_a_closed_port_is_asked_again(engine: DockerEngine) -> None:
    with pytest.raises(ImageError, match="refused") as caught:
        await engine.ensure_image("127.0.0.1:1/image", always=False)
    assert len(str(caught.value).splitlines()) == 5


async def test_not_a_reference(engine: DockerEngine) -> None:
    for image in ("", "UPPER", "a b", "../x"):
        with pytest.raises(ImageError):
            await engine.ensure_image(image, always=False)


async def test_an_engine_that_goes_away_is_not_an_image_error() -> None:
    engine = DockerEngine("tcp://127.0.0.1:1")
    with pytest.raises(EngineUnavailableError):
        await engine.ensure_image("busybox", always=True)
    await engine.close()


def test_a_time_out_is_worth_another_try() -> None:
    assert is_transient("the pull timed out")
