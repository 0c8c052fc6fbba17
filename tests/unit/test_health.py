"""What a service says of its health, how that is asked, and when a runner says it can run jobs."""

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, Final, cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from structlog.testing import capture_logs
from typer.testing import CliRunner

from stint.cli.services import health as health_check
from stint.core.errors import ConfigError, EngineError, EngineUnavailableError
from stint.process import health
from stint.process.background import FAILING, Background, BackgroundTask
from stint.process.health import readyz, watched
from stint.process.waiting import repeat
from stint_runner import readiness
from stint_runner.engine.port import Offers
from stint_runner.readiness import Readiness, check_engine
from tests.support.stack import finished
from tests.support.virtual_time import in_virtual_time, now


class Look:
    """A readiness that a test answers."""

    def __init__(self) -> None:
        self.begun = 0
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> str:
        self.begun += 1
        self.asked.set()
        await self.answer.wait()
        return f"missing {self.begun}"


async def test_those_who_ask_at_the_same_time_share_one_look() -> None:
    look = Look()
    app = Starlette(routes=[Route("/readyz", readyz(look, tuple))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
        asking = [asyncio.create_task(http.get("/readyz")) for _ in range(50)]
        await look.asked.wait()
        await asyncio.wait(asking, timeout=0)
        asking.pop(0).cancel()  # who began it leaves
        await asyncio.wait(asking, timeout=0)
        look.answer.set()
        answers = await asyncio.gather(*asking)
        assert {answer.text for answer in answers} == {"missing 1\n"}
        assert (await http.get("/readyz")).text == "missing 2\n"


async def test_each_change_of_what_is_missing_or_fails_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WATCH_INTERVAL", 0.0)
    nothing, no_nats, fails = ("", ()), ("No NATS.", ()), ("", ("No sweep.",))
    looks = iter([nothing, no_nats, no_nats, ("No Vault.", ()), nothing, nothing, fails, fails, nothing])
    look: tuple[str, tuple[str, ...]] = nothing
    looked = asyncio.Event()

    async def missing() -> str:
        nonlocal look
        try:
            look = next(looks)
        except StopIteration:
            looked.set()
        return look[0]

    with capture_logs() as logs:
        async with watched(missing, lambda: look[1]):
            await looked.wait()
    assert [(entry["log_level"], entry["event"], entry.get("missing")) for entry in logs] == [
        ("warning", "not ready", "No NATS."),
        ("warning", "not ready", "No Vault."),
        ("info", "ready again", None),
        ("error", "background tasks fail each time", ["No sweep."]),
        ("info", "no task fails any more", None),
    ]


async def away() -> None:
    raise EngineUnavailableError


async def refuses() -> None:
    raise EngineError("No.")


async def missing(info: Any, *, vault: bool = True) -> str:
    """What is missing with this answer of the engine, while NATS is there."""

    async def health() -> bool:
        return vault

    broker = SimpleNamespace(client=SimpleNamespace(is_connected=True))
    vault_and_engine = SimpleNamespace(health=health, info=info)
    return await Readiness(*cast("Any", (broker, vault_and_engine, vault_and_engine, ()))).missing()


async def test_it_is_ready_once_all_parts_answer_though_the_engine_may_refuse_to() -> None:
    assert await missing(lambda: asyncio.sleep(0)) == ""
    assert await missing(lambda: asyncio.sleep(0), vault=False) == "Vault is not reachable or sealed."
    assert await missing(refuses) == "The container engine refuses to tell its state: No."


async def test_an_engine_that_hangs_or_is_away_is_missing_and_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "ENGINE_WITHIN", 0.01)
    for asked in (asyncio.Event().wait, away):
        async with asyncio.timeout(5):
            assert await missing(asked) == "The container engine is not reachable."
            await check_engine(cast("Any", SimpleNamespace(offers=asked)), "crun")


def engine(log_drivers: Collection[str], unenforced: Collection[str] = ()) -> Any:
    async def offers() -> Offers:
        return Offers(runtimes={"crun"}, log_drivers=log_drivers, unenforced=unenforced)

    return SimpleNamespace(offers=offers)


async def test_an_engine_with_other_log_drivers_than_docker_is_refused() -> None:
    with pytest.raises(ConfigError, match="DOCKER_HOST: the engine has no log driver local"):
        await check_engine(engine({"k8s-file", "none", "passthrough", "journald"}), "")


async def test_limits_that_the_engine_ignores_are_told() -> None:
    with capture_logs() as logs:
        await check_engine(engine({"local"}), "")
        await check_engine(engine({"local"}, ["memory", "pids"]), "")
    assert [entry["ignored"] for entry in logs] == [["memory", "pids"]]


@in_virtual_time()
async def test_what_fails_because_the_service_is_not_ready_is_not_logged_beside_the_reason() -> None:
    """Nor right after it, when tasks that failed for so long have not been tried again yet."""
    away = False

    async def sweep() -> None:
        if away:
            raise EngineUnavailableError

    async def run() -> None:
        await repeat(sweep, lambda: 60.0, failed="sweep failed")

    async def missing() -> str:
        return "No engine." if away else ""

    parts = Background(BackgroundTask(name="sweep", run=run, missing="No sweep."), monotonic=now)
    with capture_logs() as logs:
        async with parts.running(), watched(missing, parts.failing):
            for _ in range(20):  # the looks come at other moments of a sweep's pause each time
                await asyncio.sleep(60)
                away = True
                await asyncio.sleep(2 * FAILING)
                assert parts.failing() == ["No sweep."]
                away = False
    assert {entry["event"] for entry in logs} == {"sweep failed", "not ready", "ready again"}


_HEALTH: Final = "from stint.cli.services import health; health.WITHIN = 0.5; health.app(['runner'])"
_HEALTHY: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready"
_SETTINGS: Final = {"STINT_API_ROLE_ID": "a", "STINT_API_SECRET_ID": "b", "STINT_PORT": "1"}


@asynccontextmanager
async def answering(answer: bytes, *, drips: bool = False) -> AsyncIterator[dict[str, str]]:
    """The environment of a runner whose health port answers so, and does not end that if it drips."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(_HEALTHY if b"/elsewhere" in asked else answer.replace(b"%s", b"/elsewhere"))
        with suppress(OSError):
            while drips:
                await asyncio.sleep(0.05)
                writer.write(b"x")
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        yield {"STINT_HEALTH_PORT": str(server.sockets[0].getsockname()[1])}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_HEALTHY, ""),
        (b"HTTP/1.1 503 x\r\nContent-Length: 12\r\n\r\nNATS is away", "NATS is away"),
        (b"HTTP/1.1 503 x\r\nContent-Length: 99\r\n\r\nNATS is away", "NATS is away"),
        (b"HTTP/1.1 503 x\r\nConnection: close\r\n\r\n" + b"x" * 10**6, "x" * 4096),
        (b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\nNATS", "The answer is not HTTP ("),
        (b"\x00\xffgarbage\r\n\r\n", "The answer is not HTTP (BadStatusLine)."),
        (b"HTTP/1.1 302 x\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", "The answer has the status 302."),
        (b"", "Remote end closed connection without response"),
    ],
)
async def test_whatever_answers_a_health_check_it_says_a_sentence(
    answer: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_check, "WITHIN", 50)
    async with answering(answer) as environ:
        ended = await asyncio.to_thread(CliRunner().invoke, health_check.app, ["runner"], env=environ)
    assert (ended.exit_code, ended.stdout.strip()[: len(said)], ended.stderr) == (1 if said else 0, said, "")
    assert len(ended.stdout) <= 4096 + 1


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 503 x\r\n\r\n"])
async def test_a_health_check_ends_in_time_though_the_answer_does_not(answer: bytes) -> None:
    async with answering(answer, drips=True) as environ:
        ended = await finished(sys.executable, "-c", _HEALTH, env=environ, seconds=60)
    assert (ended.code, ended.out, ended.err) == (1, "No answer within 0.5 s.\n", "")


def test_a_health_check_does_not_wait_for_a_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [answered.wait(60)][1:])
    monkeypatch.setattr(health_check, "WITHIN", 0.1)
    ended = CliRunner().invoke(health_check.app, ["api"], env=_SETTINGS | {"STINT_HOST": "stint.example"})
    answered.set()
    assert (ended.exit_code, ended.output) == (1, "No answer within 0.1 s.\n")


def test_a_host_that_cannot_be_one_is_said() -> None:
    ended = CliRunner().invoke(health_check.app, ["api"], env=_SETTINGS | {"STINT_HOST": "a..b"})
    assert (ended.exit_code, "label empty or too long" in ended.output) == (1, True)
