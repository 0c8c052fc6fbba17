"""Pulls on a real Docker engine, from a real registry, and from one whose answers the test writes."""

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import stamina
from aiodocker import Docker, DockerError
from aiohttp import ClientTimeout, web

from stint.core.errors import ImageError
from stint_runner.engine import docker_images
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.docker_client import LONGEST_REFUSAL
from stint_runner.engine.port import ContainerSpec, ImageUse, PullError
from stint_runner.engine.space import EngineSpace
from stint_runner.inputs.files import Member, overlay
from stint_runner.registry.references import is_transient
from tests.support import registry as real
from tests.support.second_engine import second_engine
from tests.support.tarballs import tar_of

pytestmark = pytest.mark.soak

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
HOST = os.environ.get("DOCKER_HOST", "")


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """One image under any name, of which `image` is one; the first pulls get `failures`, one each, None for none."""

    def __init__(self) -> None:
        self.failures: list[tuple[int, str] | None] = []
        self.message = "no"
        self._failing: tuple[int, str] | None = None
        self.blobs_fail = False
        self.slow = False
        self.asked, self.dropped, self.again = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.pulls = 0
        self.image = ""
        self.hold(overlay(Member(path="file", data=uuid.uuid4().bytes, mode=0o644, owner=0)))

    def hold(self, layer: bytes) -> None:
        """Let the image have this layer, a tar."""
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
        self._layer = digest(packed)
        self._blobs = {digest(config): config, digest(packed): packed}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "/manifests/" in request.path:
            return self._failure(*self._failing) if self._failing else self._manifest(request.method)
        if "/blobs/" in request.path:
            if self.slow and request.path.endswith(self._layer):
                return await self._drip(request)
            blob = self._blobs[request.path.rpartition("/")[2]]
            return self._failure(403, "DENIED") if self.blobs_fail else web.Response(body=blob)
        self.pulls += 1
        if self.pulls > 1:
            self.again.set()
        self._failing = self.failures.pop(0) if self.failures else None
        return web.json_response({})

    async def _drip(self, request: web.Request) -> NoReturn:
        """A slow line: a byte now and then, until the client has had enough."""
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"\x1f")
                self.asked.set()
                await asyncio.sleep(0.05)
        finally:
            self.dropped.set()

    def _failure(self, status: int, code: str) -> web.Response:
        return web.json_response({"errors": [{"code": code, "message": self.message}]}, status=status)

    def _manifest(self, method: str) -> web.Response:
        headers = {"Docker-Content-Digest": digest(self.manifest), "Content-Type": MANIFEST_TYPE}
        body = self.manifest if method == "GET" else b""
        return web.Response(body=body, headers=headers | {"Content-Length": str(len(self.manifest))})


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Registry]:
    registry = Registry()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", registry.answer)
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    registry.image = f"127.0.0.1:{runner.addresses[0][1]}/stint/{uuid.uuid4().hex}"
    yield registry
    await runner.cleanup()


@pytest.fixture
async def served() -> AsyncIterator[Registry]:
    async with serving() as registry:
        yield registry
    await forget(registry.image, f"{registry.image}@{digest(registry.manifest)}")


ROOM = 6_000_000
"""Bytes of an engine's disk."""


@pytest.mark.parametrize("features", [{}, {"containerd-snapshotter": True}], ids=["docker's store", "containerd's"])
async def test_an_engine_with_a_full_disk_says_so(served: Registry, tmp_path: Path, features: dict[str, bool]) -> None:
    config = tmp_path / "daemon.json"
    config.write_text(json.dumps({"features": features}), encoding="utf-8")
    async with second_engine(tmp_path, "--config-file", str(config), room=ROOM) as server:
        engine = DockerEngine(server.host)
        for big in (bytes(2 * ROOM), os.urandom(2 * ROOM)):  # no room to unpack it, and none to download it
            served.hold(tar_of({"big": big}))
            space = EngineSpace()
            with pytest.raises(PullError), space.needed():
                await engine.ensure_image(served.image, always=True)
            assert space.missing()
        await engine.close()


@pytest.mark.parametrize("cause", ["registry", "layer"])
async def test_no_registry_or_image_makes_a_disk_seem_full(engine: DockerEngine, served: Registry, cause: str) -> None:
    if cause == "layer":
        served.hold(tar_of({"file": "x"}, pax_headers={"SCHILY.xattr.user.x": "x" * 60_000}))
    else:
        served.failures, served.message = [(403, "DENIED")], "write /x: no space left on device"
    space = EngineSpace()
    with pytest.raises(PullError, match=r"no space left on device(: unknown)?$"), space.needed():
        await engine.ensure_image(served.image, always=False)
    assert not space.missing()


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(testing=True, attempts=4, cap=True):
        yield


async def forget(*images: str) -> None:
    """Remove those of them that are there."""
    async with Docker() as docker:
        for image in images:
            with contextlib.suppress(DockerError):
                await docker.images.delete(image, force=True)


async def test_a_registry_that_is_busy_is_asked_again(engine: DockerEngine, served: Registry) -> None:
    served.failures = [(503, ""), (502, "")]
    await engine.ensure_image(served.image, always=False)
    assert served.pulls == 3


async def test_each_attempt_is_told(engine: DockerEngine, served: Registry) -> None:
    served.failures = [(503, "")] * 9
    with pytest.raises(ImageError) as caught:
        await engine.ensure_image(served.image, always=False)
    lines = str(caught.value).splitlines()
    assert lines[0] == "All attempts fail:"
    assert [line.partition(":")[0] for line in lines[1:]] == ["#1", "#2", "#3", "#4"]
    assert served.pulls == 4


@pytest.mark.parametrize(
    ("status", "code"), [(401, "UNAUTHORIZED"), (403, "DENIED"), (404, "NAME_UNKNOWN"), (404, "MANIFEST_UNKNOWN")]
)
async def test_a_refusal_is_final(engine: DockerEngine, served: Registry, status: int, code: str) -> None:
    served.failures = [(status, code)]
    with pytest.raises(ImageError, match="All attempts fail:\n#1: ") as caught:
        await engine.ensure_image(served.image, always=False)
    assert len(str(caught.value).splitlines()) == 2
    assert served.pulls == 1


@pytest.mark.parametrize("told", ["at once", "inside the progress"])
async def test_what_a_registry_says_is_not_read_at_any_length(
    engine: DockerEngine, served: Registry, told: str
) -> None:
    served.message, served.blobs_fail = "x" * LONGEST_REFUSAL * 4, True
    served.failures = [(403, "DENIED")] if told == "at once" else []
    with pytest.raises(PullError, match=r"#1: .* (256 KiB or more|is too long)") as caught:
        await engine.ensure_image(served.image, always=False)
    assert len(str(caught.value)) < 200


async def test_a_pull_that_is_cancelled_stops_in_the_engine_too(engine: DockerEngine, served: Registry) -> None:
    served.slow = True
    pulling = asyncio.create_task(engine.ensure_image(served.image, always=False))
    async with asyncio.timeout(20):
        await served.asked.wait()
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        await served.dropped.wait()
    served.slow = False
    served.failures = [(404, "MANIFEST_UNKNOWN")]
    with pytest.raises(ImageError):
        await engine.ensure_image(served.image, always=False)


async def test_a_pull_waits_for_those_that_take_all_downloads_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no progress for longer than a pull may, which is not its registry's fault, and is no failed attempt."""
    async with (
        serving() as slow,
        serving() as late,
        serving() as ok,
        second_engine(tmp_path, "--max-concurrent-downloads", "1") as server,
    ):
        engine, slow.slow = DockerEngine(server.host, pull_patience=2), True
        holding = asyncio.create_task(engine.ensure_image(slow.image, always=False))
        ok.failures = [None, (503, "")]
        async with asyncio.timeout(60):
            await slow.asked.wait()
            monkeypatch.setattr(docker_images, "PULL", ClientTimeout(sock_read=2))
            with monkeypatch.context() as patch:
                patch.setattr(docker_images, "TURN", 1)
                with pytest.raises(PullError, match="other pulls to do"):
                    await engine.ensure_image(late.image, always=False)
            with stamina.set_testing(testing=False):
                pulling = asyncio.create_task(engine.ensure_image(ok.image, always=False))
                waiting = asyncio.create_task(ok.again.wait())
                await asyncio.wait({waiting, pulling}, return_when=asyncio.FIRST_COMPLETED)
                holding.cancel()
                await pulling
        assert ok.pulls > 2
        await asyncio.gather(holding, return_exceptions=True)
        waiting.cancel()
        await engine.close()


async def test_a_container_is_of_the_image_that_its_name_means_now(engine: DockerEngine, served: Registry) -> None:
    spec = ContainerSpec(image=served.image, command=["/file"])
    with pytest.raises(ImageError):
        await engine.create(spec)
    uses: list[ImageUse] = []

    async def used(use: ImageUse) -> None:
        uses.append(use)

    engine.tell_of_images(used)
    await engine.ensure_image(served.image, always=False)
    container = await engine.create(spec)
    assert await engine.image_of(container) == await image_id(served.image)
    await engine.remove(container)
    (pulled, made) = uses
    assert made == ImageUse(image_id=pulled.image_id, name=pulled.name)


async def image_id(image: str) -> str:
    async with Docker() as docker:
        return str((await docker.images.inspect(image))["Id"])


async def test_a_registry_that_comes_back_in_time(
    engine: DockerEngine, shelf: real.Registry, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pauses between the attempts, as in production."""
    image = await shelf.push(busybox, "team/later")
    await shelf.stop()
    refused = asyncio.Event()

    def told(error: str) -> bool:
        refused.set()
        return is_transient(error)

    monkeypatch.setattr(docker_images, "is_transient", told)
    with stamina.set_testing(testing=False):
        pulling = asyncio.create_task(engine.ensure_image(image, always=False))
        await refused.wait()
        await shelf.start()
        await pulling
    await forget(image)


@pytest.mark.soak
async def test_a_registry_that_is_down_is_given_up_in_time(tmp_path: Path) -> None:
    engine = DockerEngine(HOST, pull_patience=2)
    async with real.registry(tmp_path) as served:
        host = served.host
    with stamina.set_testing(testing=False), pytest.raises(ImageError, match="All attempts fail:") as caught:
        async with asyncio.timeout(10):
            await engine.ensure_image(f"{host}/team/app", always=False)
    lines = str(caught.value).splitlines()[1:]
    assert 1 < len(lines) <= 10
    assert [line.partition(":")[0] for line in lines] == [f"#{number}" for number in range(1, len(lines) + 1)]
    await engine.close()
