import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from aiodocker import DockerError
from aiohttp import ClientTimeout
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from stint.core.errors import ConfigError, EngineError
from stint.core.submission.limits import Limits
from stint_runner.engine import docker, docker_output
from stint_runner.engine import docker_wire as wire
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.docker_client import KEEP_ALIVE, UNHEARD, DockerClient, engine_errors, tls_context
from stint_runner.engine.docker_output import FrameParser, LogMeter, merged
from stint_runner.engine.port import ContainerInfo, ContainerSpec, Exit, OutputPiece
from stint_runner.engine.pull_progress import PullProgress
from stint_runner.inputs.files import Member, overlay

NAMES = {1: "stdout", 2: "stderr"}


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4) + data


FRAMES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8)


@given(FRAMES, st.lists(st.integers(0, 400), max_size=12))
def test_any_cut_of_the_frames_gives_the_same_bytes(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(frame(*each) for each in frames)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parser = FrameParser()
    pieces = [p for start, end in itertools.pairwise(edges) for p in parser.feed(data[start:end])]
    sent = [OutputPiece(NAMES[stream], data) for stream, data in frames if data]
    assert list(merged(pieces)) == list(merged(sent))
    assert parser.between_frames


def test_a_frame_comes_out_as_it_comes_in() -> None:
    parser = FrameParser()
    assert list(parser.feed(frame(1, b"abcdef")[:11])) == [OutputPiece("stdout", b"abc")]
    assert not parser.between_frames
    assert list(parser.feed(b"def" + frame(2, b"x")[:3])) == [OutputPiece("stdout", b"def")]
    assert not parser.between_frames
    for unknown in (0, 3, 255):
        with pytest.raises(EngineError):
            list(FrameParser().feed(frame(unknown, b"x")))


def test_the_smallest_config() -> None:
    assert wire.create_config(ContainerSpec(image="busybox", hardened=False)) == {
        "Image": "busybox:latest", "User": "2001:2001", "OpenStdin": False, "Tty": False, "Labels": {}, "Env": [],
        "HostConfig": {
            "NetworkMode": "bridge",
            "LogConfig": {"Type": "local", "Config": {"max-size": "128000000", "max-file": "2", "compress": "false"}},
        },
    }  # fmt: skip


def test_the_whole_config() -> None:
    spec = ContainerSpec(
        image="app:1", entrypoint=["e"], command=["c"], working_directory="/w", env=["A=1", "B=2", "A=3"], tty=True,
        labels={"l": "v"}, network="none", binds={"/host:x": "/inside"},
    )  # fmt: skip
    config = wire.create_config(spec)
    host = config.pop("HostConfig")
    assert config == {
        "Image": "app:1", "User": "2001:2001", "OpenStdin": False, "Tty": True, "Labels": {"l": "v"},
        "Env": ["A=3", "B=2"], "Entrypoint": ["e"], "Cmd": ["c"], "WorkingDir": "/w", "NetworkDisabled": True,
    }  # fmt: skip
    assert host["NetworkMode"] == "none"
    assert host["Mounts"] == [{"Type": "bind", "Source": "/host:x", "Target": "/inside", "ReadOnly": True}]
    assert (host["SecurityOpt"], host["CapDrop"]) == (["no-new-privileges"], ["ALL"])
    assert host["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]
    assert not host.keys() & {"PidsLimit", "Memory", "MemorySwap", "CpuQuota", "ReadonlyRootfs"}


@pytest.mark.parametrize("hardened", [True, False])
def test_limits(hardened: bool) -> None:
    """The least processor time is not none."""
    limits = Limits(timeout=60, cpus=1.5, memory=2**30, pids=100)
    host = wire.create_config(ContainerSpec(image="app", limits=limits, hardened=hardened))["HostConfig"]
    assert host.items() >= {
        "CpuPeriod": 100_000, "CpuQuota": 150_000, "Memory": 2**30, "MemorySwap": 2**30, "PidsLimit": 100,
    }.items()  # fmt: skip
    assert wire.create_config(ContainerSpec(image="app", limits=Limits(cpus=0.01)))["HostConfig"]["CpuQuota"] == 1000


def test_a_frozen_container() -> None:
    spec = ContainerSpec(image="app", command=["c"], read_only=True, env=["A=1"], labels={"l": "v"})
    config = wire.frozen_config(spec, image_id="sha256:00", model="m")
    plain = wire.create_config(spec)
    assert config.pop("Image") == "sha256:00"
    assert plain.pop("Image") == "app:latest"
    assert config.pop("HostConfig") == {**plain.pop("HostConfig"), "ReadonlyRootfs": True, "VolumesFrom": ["m"]}
    assert config == plain


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"status": "Downloading", "progressDetail": {}}, ""),
        ({"errorDetail": {"message": "detailed"}, "error": "short"}, "detailed"),
        ({"error": "short"}, "short"),
    ],
)
def test_progress_of_a_pull(line: dict[str, Any], error: str) -> None:
    for text, expected in ((json.dumps(line), error), (json.dumps(line)[:-1], "the engine's progress is not JSON")):
        failed = pytest.raises(EngineError, match=f"^{expected}$") if expected else nullcontext()
        with failed:
            PullProgress().after(f"{text}\r\n".encode())


def test_listing() -> None:
    assert wire.frozen_images({"a": "1"}) == {"label": ["a=1"], "dangling": ["true"]}
    assert json.loads(wire.label_filter({"a": "1", "b": "x=y"})) == {"label": ["a=1", "b=x=y"]}
    assert json.loads(wire.label_filter({"a": ""})) == {"label": ["a"]}
    assert wire.container_info("c", None, "exited") == ContainerInfo(container_id="c", labels={}, started=True)
    assert [wire.container_info("c", {}, state).started for state in ("running", "paused", "created", "dead")] == [
        True, True, False, True,
    ]  # fmt: skip


def test_exits_figures_and_limits_that_an_engine_leaves_out() -> None:
    info = {"Runtimes": {"runc": {}}, "Plugins": {"Log": ["local"]}}
    assert wire.offers(info).unenforced == []
    rootless = {"MemoryLimit": False, "PidsLimit": False, "CpuCfsQuota": False}
    assert wire.offers({**info, **rootless}).unenforced == ["memory", "cpus", "pids"]
    assert wire.exit_of(137, {"State": {"OOMKilled": True}}) == Exit(137, oom_killed=True)
    assert wire.exit_of(1, {}) == Exit(1)
    assert wire.exit_code({"StatusCode": 2**32 - 1}) == 2**32 - 1
    with pytest.raises(EngineError, match=r"^no shim$"):
        wire.exit_code({"StatusCode": 0, "Error": {"Message": "no shim"}})
    for code in (2**32, -(2**64)):
        with pytest.raises(EngineError, match="no process can have"):
            wire.exit_code({"StatusCode": code})
    assert wire.figures({"Images": 3, "Architecture": "x86_64", "Name": "x"}) == {"images": 3, "architecture": "x86_64"}


def test_a_tar_of_one_file() -> None:
    assert wire.regular_file(overlay(Member(path="x", data=b"data", mode=0o644, owner=0))) == b"data"
    assert wire.regular_file(overlay(Member(path="x", data=bytes(2**20 + 1), mode=0o644, owner=0))) is None
    for other in (b"", overlay(), b"junk" * 512):
        assert wire.regular_file(other) is None


def test_lines_that_came_together_go_on_together() -> None:
    lines = [OutputPiece("stdout", b"a\n"), OutputPiece("stdout", b"b\n"), OutputPiece("stderr", b"c\n")]
    found = [(piece.stream, piece.data) for piece in merged([*lines, lines[0]])]
    assert found == [("stdout", b"a\nb\n"), ("stderr", b"c\n"), ("stdout", b"a\n")]


def read(meter: LogMeter, *sizes: int) -> bool:
    list(meter.frames(OutputPiece("stdout", bytes(size)) for size in sizes))
    return meter.may_have_rotated


LOG_FILE = 10**6


def test_a_log_is_whole_that_fits_into_a_file_with_what_each_line_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(docker_output, "LOG_FILE", LOG_FILE)
    assert not read(LogMeter())
    assert not read(LogMeter(), LOG_FILE - 128 - 1)
    assert read(LogMeter(), LOG_FILE - 128)
    assert read(LogMeter(), LOG_FILE // 2, LOG_FILE // 2)
    lines = LOG_FILE // 130 + 1
    assert not read(LogMeter(), *[2] * (lines - 1))
    assert read(LogMeter(), *[2] * lines)
    meter = LogMeter()
    meter.terminal(b"\r\n" * (lines * 9 // 10))
    assert not meter.may_have_rotated
    meter.terminal(b"\r\n" * (lines // 10))
    assert meter.may_have_rotated


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    await reader.read()
    writer.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("scheme", ["tcp", "http"])
async def test_a_peer_that_is_gone_is_noticed(port: int, scheme: str) -> None:
    client = DockerClient(f"{scheme}://127.0.0.1:{port}")
    try:
        async with client.session.get(f"http://127.0.0.1:{port}/") as waiting:
            assert waiting.connection is not None
            assert waiting.connection.transport is not None
            connection = waiting.connection.transport.get_extra_info("socket")
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            set_here = {option: connection.getsockopt(socket.IPPROTO_TCP, option) for option in KEEP_ALIVE}
            assert set_here == KEEP_ALIVE
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNHEARD
    finally:
        await client.close()


def test_a_call_that_is_forbidden_is_told_from_the_jobs_fault() -> None:
    with pytest.raises(EngineError, match="forbids this runner a call: denied by plugin"), engine_errors():
        raise DockerError(403, "denied by plugin")


Answers = list[tuple[bytes, bytes]]


@pytest.fixture
async def stranger(tmp_path: Path) -> AsyncIterator[tuple[DockerEngine, Answers]]:
    """An engine, and what a stranger answers in its place, the last answer for ever.

    An answer is a part of the path that must be asked for, and a body, which never comes if it is empty.
    """
    answers: Answers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path, body = answers.pop(0) if len(answers) > 1 else answers[0]
        if path in head.partition(b"\r\n")[0]:
            kind = b"text/html" if body.startswith(b"<") else b"application/json"
            status = b"500 Internal Server Error" if b'"message"' in body else b"200 OK"
            writer.write(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Type: %s\r\n\r\n%s" % (status, kind, body))
            if not body:
                await reader.read()
        writer.close()

    path = f"{tmp_path}/engine"
    engine = DockerEngine(f"unix://{path}", api_version="1.43")
    async with await asyncio.start_unix_server(serve, path):
        yield engine, answers
        await engine.close()


async def test_an_answer_about_a_containers_end_that_got_lost_is_asked_for_again(
    stranger: tuple[DockerEngine, Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, answers = stranger
    monkeypatch.setattr(docker, "WAIT", ClientTimeout(sock_read=0.1))
    answers[:] = [(b"/wait", b""), (b"/wait", b""), (b"/wait", b'{"StatusCode": 0}')]
    async with asyncio.timeout(10):
        assert await engine.wait("c") == Exit(0)
    assert len(answers) == 1, "the last one was asked for"


async def test_an_engine_that_does_not_say_what_ran_out_of_memory_holds_up_no_end(
    stranger: tuple[DockerEngine, Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock may have been set back: then it waits for the end of the time that it is asked about."""
    engine, answers = stranger
    monkeypatch.setattr(docker, "LATE_NEWS", 0.1)
    state = {"StartedAt": "2025-03-12T20:58:57Z", "FinishedAt": "2025-03-12T20:58:58Z"}
    shown = json.dumps({"State": state, "HostConfig": {"Memory": 1}}).encode()
    answers[:] = [(b"/wait", b'{"StatusCode": 137}'), (b"/json", shown), (b"/events", b""), (b"", b"null")]
    async with asyncio.timeout(10):
        assert await engine.wait("c") == Exit(137)
    assert answers == [(b"", b"null")], "each of the others was asked for"


@pytest.mark.parametrize(
    ("program", "folder", "refused"),
    [
        ("a" * 4096, "a" * 4096, ""),
        ("a" * 4097, "", "program"),
        ("\u00e4" * 2049, "", "program"),
        (None, "a" * 4097, "working directory"),
    ],
)
async def test_what_hangs_at_its_start_is_not_started(
    stranger: tuple[DockerEngine, Answers], program: str | None, folder: str, refused: str
) -> None:
    """Whether the job's command names it or its image: runc does not come back from a name of 64 KiB."""
    engine, answers = stranger
    shown = {"Path": program, "Image": "i", "Config": {"Image": "app", "WorkingDir": folder}}
    answers[:] = [(b"/json", json.dumps(shown).encode())]
    failed = pytest.raises(EngineError, match=f"The name of the {refused} is longer than 4096 bytes")
    with failed if refused else nullcontext():
        assert await engine.image_of("c") == "i"


async def _read(engine: DockerEngine) -> None:
    async with aclosing(engine.output("c")) as pieces:  # type: ignore[type-var]
        async for _ in pieces:
            pass


CALLS: dict[str, Callable[[DockerEngine], Awaitable[object]]] = {
    "create": lambda engine: engine.create(ContainerSpec(image="app")),
    "discard": lambda engine: engine.discard({"a": "1"}),
    "find": lambda engine: engine.find({"a": "1"}),
    "image of": lambda engine: engine.image_of("c"),
    "images": lambda engine: engine.images(),
    "output": _read,
    "pull": lambda engine: engine.ensure_image("app", always=True),
    "stop": lambda engine: engine.stop("c", 1),
    "wait": lambda engine: engine.wait("c"),
}
NONSENSE = [b"<html>", b"null", b"[5]", b'{"', b"\xff", b"[" * 100_000, b'{"State": null, "StatusCode": null}', b"[{}]"]


@pytest.mark.parametrize("call", CALLS)
async def test_a_wrong_answer_is_the_engines_error(stranger: tuple[DockerEngine, Answers], call: str) -> None:
    """As any other, it is tried again while a container may run; and a watchdog kills the processes then."""
    engine, answers = stranger
    for body in NONSENSE:
        answers[:] = [(b"", body)]
        with pytest.raises(EngineError):
            await CALLS[call](engine)


@pytest.mark.parametrize("line", [b"[]", b"5", b'{"errorDetail":"x"}', b'{"id":"a","progressDetail":{"current":""}}'])
async def test_a_pull_whose_progress_is_none(stranger: tuple[DockerEngine, Answers], line: bytes) -> None:
    engine, answers = stranger
    answers[:] = [(b"", body) for body in (b"null", b"[]", line)]
    with pytest.raises(EngineError, match="cannot be read"), capture_logs() as logs:
        await engine.ensure_image("app", always=True)
    assert [isinstance(entry["exc_info"], Exception) for entry in logs] == [True], "it may be a fault of Stint's own"


async def test_only_a_path_that_leads_nowhere_is_a_missing_file(
    stranger: tuple[DockerEngine, Answers],
) -> None:
    """What an image does not have is remembered for all its jobs."""
    engine, answers = stranger
    for nowhere in ("lstat /etc/passwd: not a directory", "evalSymlinksInScope: too many links in /etc/passwd"):
        answers[:] = [(b"/archive", json.dumps({"message": nowhere}).encode())]
        assert await engine.read_file("c", "/etc/passwd") is None
    answers[:] = [(b"/archive", b'{"message": "open /var/lib/docker/x/merged: too many open files"}')]
    with pytest.raises(EngineError, match="too many open files"):
        await engine.read_file("c", "/etc/passwd")


def test_certificates_of_a_user_without_a_home_are_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"^DOCKER_CERT_PATH: .*~no-such-user/certs"):
        tls_context("tcp://engine:2376", cert_path="~no-such-user/certs")
