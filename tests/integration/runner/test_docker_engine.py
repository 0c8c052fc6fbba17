"""The engine port on a real Docker engine."""

import asyncio
import os
import random
import tarfile
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stint.core.errors import ConfigError, EngineError, EngineUnavailableError
from stint.core.submission.limits import Limits
from stint_runner.engine import docker_wire
from stint_runner.engine.docker import DEFAULT_HOST, DockerEngine
from stint_runner.engine.port import ContainerInfo, ContainerSpec, DanglingLinkError, Engine, Exit, OutputPiece
from stint_runner.inputs.files import Member, overlay
from stint_runner.readiness import check_engine
from tests.support.memory_kills import until_told
from tests.support.ports import free_port
from tests.support.relay import Relay
from tests.support.scripts import lasting
from tests.support.tarballs import tar_of
from tests.support.waiting import PATIENCE

MEBIBYTE = 2**20


@pytest.fixture
def label() -> dict[str, str]:
    return {"stint.engine-test": uuid.uuid4().hex}


@pytest.fixture
async def engine(label: dict[str, str]) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(os.environ.get("DOCKER_HOST", ""))
    yield engine
    for container in await engine.find(label):
        await engine.remove(container.container_id)
    await engine.close()


@pytest.fixture
def shell(busybox: str, label: dict[str, str]) -> Callable[..., ContainerSpec]:
    def make(script: str, **fields: object) -> ContainerSpec:
        defaults = {"image": busybox, "command": ["sh", "-c", lasting(script)], "labels": label, "network": "none"}
        return ContainerSpec(**{**defaults, **fields})  # type: ignore[arg-type] # fields differ in type by name

    return make


Shell = Callable[..., ContainerSpec]


async def read(output: AsyncIterator[OutputPiece]) -> list[OutputPiece]:
    return [piece async for piece in output]


async def collect(engine: Engine, container: str) -> list[OutputPiece]:
    """What stands in its log."""
    return await read(engine.output(container))


def joined(pieces: list[OutputPiece], *streams: str) -> bytes:
    return b"".join(piece.data for piece in pieces if not streams or piece.stream in streams)


async def run(engine: Engine, spec: ContainerSpec, *archives: bytes) -> tuple[Exit, list[OutputPiece]]:
    container = await engine.create(spec)
    for archive in archives:
        await engine.put_archive(container, archive)
    output = await engine.attach(container, tty=spec.tty)
    await engine.start(container)
    pieces, ended = await asyncio.gather(read(output), engine.wait(container))
    logged = await collect(engine, container)
    for stream in ("stdout", "stderr", "tty"):
        assert joined(logged, stream) == joined(pieces, stream), "the log has the same"
    await engine.remove(container)
    return ended, pieces


async def test_a_kill_for_memory_is_known_when_its_flag_is_late(
    engine: DockerEngine, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_wire, "exit_of", lambda code, _inspected: Exit(code))
    limits = Limits(memory=16 * MEBIBYTE)

    async def told() -> bool:
        greedy, _ = await run(engine, shell("exec tail -c 100m /dev/zero", limits=limits))
        assert greedy.code == 137
        return greedy.oom_killed

    await until_told(told)
    other, _ = await run(engine, shell("exit 137", limits=limits))
    assert other == Exit(137)


async def test_output_is_exact_and_in_order(engine: DockerEngine, shell: Shell) -> None:
    noise = random.Random(7).randbytes(300_000)  # noqa: S311 - any bytes do, the same ones each time
    archive = overlay(Member(path="noise", data=noise, mode=0o444, owner=0))
    script = "cat /noise; cat /noise >&2; printf 'no newline at the end'"
    _, pieces = await run(engine, shell(script), archive)
    assert joined(pieces, "stdout") == noise + b"no newline at the end"
    assert joined(pieces, "stderr") == noise
    assert max(len(piece.data) for piece in pieces) <= 64 * 1024


async def test_an_attached_reader_holds_the_container_up_until_it_lets_go(engine: DockerEngine, shell: Shell) -> None:
    """So nothing is rotated away, and a job goes on when nobody wants more of its output."""
    container = await engine.create(shell(f"head -c {20 * MEBIBYTE} /dev/zero"))
    output = await engine.attach(container, tty=False)
    await engine.start(container)
    await anext(output)
    waiting = asyncio.create_task(engine.wait(container))
    done, _ = await asyncio.wait({waiting}, timeout=1)
    assert not done
    await output.aclose()
    assert (await waiting).code == 0


async def test_attached_output_that_ends_before_the_container_broke_off(engine: DockerEngine, shell: Shell) -> None:
    """As when the engine is stopped, and its containers live on; also before the start."""
    container = await engine.create(shell("echo ready; sleep 60"))
    async with relayed() as (relay, other):
        output = await other.attach(container, tty=False)
        await engine.start(container)
        assert (await anext(output)).data == b"ready\n"
        relay.end()
        with pytest.raises(EngineUnavailableError):
            await anext(output)
    container = await engine.create(shell("echo up"))
    async with relayed() as (relay, other):
        output = await other.attach(container, tty=False)
        relay.end()
        with pytest.raises(EngineUnavailableError):
            await anext(output)
        with pytest.raises(EngineUnavailableError):
            await anext(aiter(engine.output(container)))


@asynccontextmanager
async def relayed() -> AsyncIterator[tuple[Relay, DockerEngine]]:
    """The engine through a relay."""
    address = urlsplit(os.environ.get("DOCKER_HOST") or DEFAULT_HOST)
    relay = Relay(address.path if address.scheme == "unix" else address.port or 0)
    async with relay.listening() as port:
        engine = DockerEngine(f"tcp://127.0.0.1:{port}")
        try:
            yield relay, engine
        finally:
            await engine.close()


async def test_many_followers_at_once(engine: DockerEngine, shell: Shell) -> None:
    """More than the 100 connections that aiohttp allows by itself."""
    container = await engine.create(shell("echo ready; sleep 60"))
    await engine.start(container)
    outputs = [engine.output(container) for _ in range(110)]
    assert {piece.data for piece in await asyncio.gather(*map(anext, outputs))} == {b"ready\n"}
    await engine.kill(container)
    for output in outputs:
        assert [piece async for piece in output] == []


async def test_a_bind_is_read_only_and_must_be_there(engine: DockerEngine, shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("ca")
    file.chmod(0o666)
    spec = shell(f"cat {file}; echo x > {file}", binds={str(file): str(file)})
    _, pieces = await run(engine, spec)
    assert joined(pieces, "stdout") == b"ca"
    assert b"Read-only" in joined(pieces, "stderr")
    assert file.read_text() == "ca"
    with pytest.raises(EngineError, match="does not exist"):
        await engine.create(shell("true", binds={str(tmp_path / "none"): "/ca.pem"}))
    assert not (tmp_path / "none").exists()


async def test_ending_what_has_ended_does_nothing(engine: DockerEngine, shell: Shell) -> None:
    container = await engine.create(shell("true"))
    await engine.kill(container)
    await engine.stop(container, 1)
    await engine.start(container)
    await engine.wait(container)
    for _ in range(2):
        await engine.kill(container)
        await engine.stop(container, 1)
    await engine.remove(container)
    await engine.remove(container)
    await engine.kill(container)
    await engine.stop(container, 1)


async def test_remove_ends_a_running_container(engine: DockerEngine, shell: Shell, label: dict[str, str]) -> None:
    container = await engine.create(shell("echo ready; sleep 60"))
    await engine.start(container)
    output = engine.output(container)
    assert (await anext(output)).data == b"ready\n"

    async def left() -> Sequence[ContainerInfo]:
        await engine.remove(container)
        return await engine.find(label)

    assert await asyncio.gather(*(left() for _ in range(3))) == [[], [], []], "only one of them removes it"
    assert [piece async for piece in output] == []


async def test_a_container_or_a_network_that_is_not_there(engine: DockerEngine, shell: Shell) -> None:
    container = await engine.create(shell("true"))
    await engine.remove(container)
    assert await engine.read_file(container, "/etc/passwd") is None
    calls = (engine.start(container), engine.wait(container), collect(engine, container),
             engine.put_archive(container, overlay()))  # fmt: skip
    for refused in await asyncio.gather(*calls, return_exceptions=True):
        assert type(refused) is EngineError
    container = await engine.create(shell("true", network="stint-no-such-network"))
    with pytest.raises(EngineError, match="network"):
        await engine.start(container)


async def test_find_sees_only_its_labels(engine: DockerEngine, shell: Shell, label: dict[str, str]) -> None:
    created = await engine.create(shell("true", labels={**label, "which": "1"}))
    started = await engine.create(shell("sleep 60"))
    await engine.start(started)
    found = {info.container_id: info for info in await engine.find(label)}
    assert {container: info.started for container, info in found.items()} == {created: False, started: True}
    assert found[created].labels.items() >= {**label, "which": "1"}.items()
    assert [info.container_id for info in await engine.find({**label, "which": "1"})] == [created]
    assert await engine.find({**label, "which": "2"}) == []


async def test_runtimes_that_the_engine_has_and_has_not(engine: DockerEngine) -> None:
    for runtime in ("", "runc", "io.containerd.any.v1"):
        await check_engine(engine, runtime)
    with pytest.raises(ConfigError, match=r"STINT_JOB_RUNTIME: the engine has no runtime none-such, only .*\brunc"):
        await check_engine(engine, "none-such")


async def test_files_that_are_not_regular(engine: DockerEngine, shell: Shell) -> None:
    container = await engine.create(shell("true"))
    files = [
        Member(path="small", data=b"", mode=0o644, owner=0),
        Member(path="limit", data=bytes(MEBIBYTE), mode=0o644, owner=0),
        Member(path="big", data=bytes(MEBIBYTE + 1), mode=0o644, owner=0),
        Member(path="huge", data=bytes(5 * MEBIBYTE), mode=0o644, owner=0),
    ]
    await engine.put_archive(container, overlay(*files))
    await engine.put_archive(container, tar_of({"circle": ""}, type=tarfile.SYMTYPE, linkname="circle"))
    assert await engine.read_file(container, "/small") == b""
    assert await engine.read_file(container, "/limit") == bytes(MEBIBYTE)
    for path in ("/big", "/huge", "/none", "/bin/sh", "/bin", "/", "/small/none", "/circle", "/circle/x", "/dev/null"):
        assert await engine.read_file(container, path) is None, path


async def test_an_archive_that_cannot_be_unpacked(engine: DockerEngine, shell: Shell) -> None:
    container = await engine.create(shell("true"))
    below_a_file = Member(path="bin/busybox/x", data=bytes(5 * MEBIBYTE), mode=0o644, owner=0)
    # Docker reads no further, and closes its end half a second later. The relay resets it with the block.
    async with relayed() as (_, through):
        for archive in (overlay(below_a_file), b"junk" * tarfile.BLOCKSIZE):
            with pytest.raises(EngineError) as caught:
                await through.put_archive(container, archive)
            assert type(caught.value) is EngineError
    with pytest.raises(DanglingLinkError):
        await engine.put_archive(container, tar_of({"a": ""}, type=tarfile.LNKTYPE, linkname="none"))


async def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    for host in (f"unix://{tmp_path}/none.sock", f"tcp://127.0.0.1:{free_port()}"):
        engine = DockerEngine(host)
        calls = (
            engine.ensure_image("busybox", always=False), engine.create(ContainerSpec(image="busybox")),
            engine.read_file("c", "/x"), engine.put_archive("c", b""), engine.start("c"), collect(engine, "c"),
            engine.wait("c"), engine.stop("c", 1), engine.kill("c"), engine.remove("c"), engine.find({}), engine.info(),
        )  # fmt: skip
        for refused in await asyncio.gather(*calls, return_exceptions=True):
            assert type(refused) is EngineUnavailableError
        await engine.close()
        await engine.close()


async def test_a_connection_that_breaks(engine: DockerEngine, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    container = await engine.create(shell("echo ready; sleep 60"))
    await engine.start(container)
    asked = {b"/wait": asyncio.Event(), b"/stop": asyncio.Event()}  # else a stop could take a connection made later

    async def sent(data: bytes) -> bytes:
        for path, event in asked.items():
            if path in data:
                event.set()
        return data

    async with relayed() as (relay, through):
        monkeypatch.setattr(relay, "sent", sent)
        output = through.output(container)
        assert (await anext(output)).data == b"ready\n"
        waiting = asyncio.create_task(through.wait(container))
        stopping = asyncio.create_task(through.stop(container, 60))
        async with asyncio.timeout(PATIENCE):
            for event in asked.values():
                await event.wait()
        relay.cut()
        for broken in await asyncio.gather(anext(output), waiting, stopping, return_exceptions=True):
            assert isinstance(broken, EngineUnavailableError)


@pytest.mark.parametrize("host", ["/var/run/docker.sock", "ssh://host", "npipe:////./pipe/docker"])
def test_an_address_of_an_unknown_kind(host: str) -> None:
    with pytest.raises(ConfigError):
        DockerEngine(host)
