"""Whatever another server answers in the place of Stint, or a proxy in between: the client says so in a sentence."""

import asyncio
import gc
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from stint.cli.doctor import servers
from stint.client import Client, Endpoints, Sealed
from stint.client.errors import ApiRefusedError, ApiUnreachableError, UnexpectedAnswerError
from stint.client.rest.api import Api
from stint.client.rest.connection import http_client
from stint.client.results import JobInfo, read
from stint.core.errors import ConfigError, StintError
from stint.core.submission.payload import JobPayload
from tests.support.waiting import until_true

JOB: Final = "b" * 24
STREAM: Final = "Content-Type: text/event-stream"
DEEP: Final = b"[" * 100_000 + b"]" * 100_000

ANSWERS: Final[dict[str, tuple[int, str, bytes]]] = {
    "a page to sign in": (200, "Content-Type: text/html; charset=utf-8", b"<html>Sign in</html>"),
    "nothing": (200, "", b""),
    "no content": (204, "", b""),
    "a list": (200, "", b"[]"),
    "an empty object": (200, "", b"{}"),
    "nulls": (200, "", b'{"data":null,"counts":null,"keys":null,"status":null,"_id":null,"ended":null}'),
    "numbers": (200, "", b'{"data":1,"counts":1,"keys":1,"status":1,"_id":1,"now":1}'),
    "lists of numbers": (200, "", b'{"data":[1],"counts":[1],"keys":[1],"status":[1],"_id":[1]}'),
    "too many levels": (200, "", b'{"data":' + DEEP + b"}"),
    "many levels": (200, "", b'{"data":[' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"]}"),
    "too many digits": (200, "", b'{"data":[' + b"9" * 6000 + b"]}"),
    "half a character": (200, "", b'{"data":[{"_id":"\\ud800","qname":"\\ud800","runner":"\\ud800","status":"x"}]}'),
    "no UTF-8": (200, "Content-Type: application/json; charset=none", b'{"data":"\xff"}'),
    "another address": (302, "Location: http://127.0.0.1:1/", b""),
    "no gzip": (200, "Content-Encoding: gzip", b"{}"),
    "a lot": (200, "Content-Encoding: gzip", gzip.compress(b'{"data":"' + b"x" * 5_000_000 + b'"}', 1)),
    "a next page that is no address": (200, 'Link: <http://[::1>; rel="next"', b'{"data":[]}'),
    "a next page elsewhere": (200, 'Link: <http://127.0.0.1:1/>; rel="next"', b'{"data":[]}'),
    "the same page as the next": (200, 'Link: <>; rel="next"', b'{"data":[]}'),
    "an error that is a number": (403, "", b'{"error":1,"_id":2}'),
    "an error that is an object": (500, "", b'{"error":{"a":1},"_id":[]}'),
    "an error of a proxy": (502, "", b"<h1>Bad gateway</h1>"),
    "an event without fields": (200, STREAM, b"event: gone\nid: 1\ndata: {}\n\n"),
    "an event with others": (200, STREAM, b'event: gone\nid: 1\ndata: {"_id":[1],"qname":{}}\n\n'),
    "a fact that is none": (200, STREAM, b'event: fact\nid: 1-1-1\ndata: {"kind":1}\n\n'),
    "an output that is none": (200, STREAM, b'event: output\nid: 1-1-1\ndata: {"data":"%%%","at":1}\n\n'),
    "a time without a zone": (200, "Date: Mon, 01 Jan 2024 00:00:00 -0000", b'{"data":{}}'),
    "policies that are numbers": (
        200,
        "",
        b'{"data":{"display_name":"x","ttl":1,"num_uses":0,"policies":[1,2]},"auth":{"client_token":5}}',
    ),
    "half an event": (200, STREAM, b'event: end\nid: 1-1-1\ndata: {"_id"'),
    "an event of too many levels": (200, STREAM, b"event: fact\ndata: " + DEEP + b"\n\n"),
}


async def _all(items: AsyncIterator[object]) -> list[object]:
    return [item async for item in items]


QUESTIONS: Final[dict[str, Callable[[Client], Awaitable[Any]]]] = {
    "jobs": lambda stint: _all(stint.jobs()),
    "counts": lambda stint: stint.counts(),
    "audit": lambda stint: _all(stint.audit()),
    "lineage": lambda stint: _all(stint.lineage("kv/a.b")),
    "queues": lambda stint: stint.queues(),
    "queue": lambda stint: stint.queue("q"),
    "runners": lambda stint: stint.runners(),
    "keys": lambda stint: stint.receipt_keys(),
    "events": lambda stint: _all(stint.events()),
    "send": lambda stint: stint.send(Sealed("q", {"qname": "q"})),
    "info": lambda stint: stint.job(JOB).info(),
    "stream": lambda stint: _all(stint.job(JOB).stream()),
    "output": lambda stint: stint.job(JOB).output(),
    "receipt": lambda stint: stint.job(JOB).receipt(),
    "release": lambda stint: stint.job(JOB).release(),
    "kill": lambda stint: stint.job(JOB).kill(),
}


def _head(status: int, header: str = "") -> bytes:
    lines = filter(None, (f"HTTP/1.1 {status} x", header, "Connection: close"))
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@asynccontextmanager
async def _server(status: int, header: str, body: bytes, *, drip: bytes = b"") -> AsyncIterator[Endpoints]:
    """Answers the same to everything. `drip` follows it each 0.05 s, for ever."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_head(status, header) + body)
        with suppress(OSError):
            while drip:
                await asyncio.sleep(0.05)
                writer.write(drip)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield Endpoints(url=url, vault_addr=url, token="t")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that breaks is not tried again, nor a submission."""
    monkeypatch.setattr("stint.client.job.PATIENCE", 0.0)
    monkeypatch.setattr("stint.client.rest.api.PAUSES", ())


@pytest.mark.parametrize("name", ANSWERS)
async def test_no_answer_is_more_than_an_error(name: str) -> None:
    async with _server(*ANSWERS[name]) as where, Client.connect(where, patience=0) as stint:
        for ask in QUESTIONS.values():
            with suppress(StintError):
                await ask(stint)
        assert all(finding.what for finding in await servers.look_at_api(where))
        assert all(finding.what for finding in await servers.look_at_vault(where, "q"))
        with suppress(StintError):
            await stint.seal(JobPayload(qname="q", container_image="busybox"))


@pytest.mark.parametrize("said", [b"INFO []", b"INFO 5", b"INFO {", DEEP[:60_000], b"220 smtp", b'INFO {"version":[]}'])
async def test_a_false_nats_or_docker_is_found(said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes = b"") -> None:
        writer.write(head + said + b"\r\n")
        writer.close()

    async def docker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await answer(reader, writer, b"HTTP/1.1 200 x\r\nConnection: close\r\n\r\n")

    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'docker.sock'}")
    async with (
        await asyncio.start_server(answer, "127.0.0.1") as nats,
        await asyncio.start_unix_server(docker, tmp_path / "docker.sock"),
    ):
        port = nats.sockets[0].getsockname()[1]
        found = [*await servers.look_at_nats(f"127.0.0.1:{port}"), *await servers.look_at_docker()]
    assert [(finding.about, finding.verdict) for finding in found] == [("nats", "bad"), ("docker", "bad")]
    assert not [finding.what for finding in found if finding.what.endswith("..")]


async def test_an_address_of_nats_that_is_none_is_a_finding() -> None:
    (found,) = await servers.look_at_nats("nats://[::1")
    assert (found.verdict, found.what) == ("bad", "nats://[::1 does not answer as a NATS server: Invalid IPv6 URL.")


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999", "http://[::1", "127.0.0.1:8200", ""])
async def test_an_address_of_vault_that_is_none_is_a_finding(address: str) -> None:
    (found,) = await servers.look_at_vault(Endpoints(url="http://a", vault_addr=address, token="t"), None)
    assert (found.verdict, found.what[:11]) == ("bad", "VAULT_ADDR:")


async def test_an_api_that_waits_for_vault_says_so_later_than_others_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "WITHIN", 0)
    async with _server(503, "", b"Vault is away.") as where:
        (found,) = await servers.look_at_api(where)
    assert (found.verdict, found.what) == ("bad", f"{where.url} is not ready: Vault is away.")


@pytest.mark.parametrize(
    ("path", "status", "about", "said"),
    [
        ("/readyz", 0, "api", "does not answer in time"),
        ("/v1/api/health", 0, "api", "does not answer in time"),
        ("/v1/api/queue", 0, "queues", "within 1.5 s"),
        ("/v1/api/health", 503, "api", "is not ready: NATS is away."),
        ("/v1/api/runner", 503, "api", "is not ready: NATS is away."),
        ("/v1/api/queue", 503, "queues", "NATS is away."),
        ("/v1/sys/health", 500, "vault", "answers with an error (500)"),
        ("/v1/sys/health", 0, "vault", "cannot be used: no answer in time."),
        ("/info", 503, "docker", "answers with an error (503)"),
        ("/info", 0, "docker", "cannot be used: no answer in time."),
    ],
)
async def test_a_server_in_trouble_is_a_finding(
    path: str, status: int, about: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose answer comes byte by byte, and does not end (0)."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bad = path.encode() in await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status if bad and status else 200} x\r\nContent-Length: 25\r\n\r\n".encode())
        with suppress(OSError):
            while bad and not status:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.2)
        writer.write(b'{"error":"NATS is away."} ')
        writer.close()

    monkeypatch.setattr(servers, "WITHIN", 30 if status else 1.5)  # the others' answers must come in time
    monkeypatch.setattr(servers, "READY_WITHIN", 30 if status else 1.5)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'docker.sock'}")
    async with (
        await asyncio.start_server(answer, "127.0.0.1") as server,
        await asyncio.start_unix_server(answer, tmp_path / "docker.sock"),
    ):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        where = Endpoints(url=url, vault_addr=url, token="t")
        looks = (servers.look_at_api(where), servers.look_at_vault(where, None), servers.look_at_docker())
        findings = [finding for found in await asyncio.gather(*looks) for finding in found]
    (wrong,) = [found.what for found in findings if (found.about, found.verdict) == (about, "bad")]
    assert wrong.endswith(said)


@pytest.mark.parametrize("question", ["output", "receipt", "stream", "events"])
@pytest.mark.parametrize("name", ["a page to sign in", "another address"])
async def test_a_page_of_a_proxy_is_no_output(name: str, question: str) -> None:
    async with _server(*ANSWERS[name]) as where, Client.connect(where) as stint:
        with pytest.raises(
            ApiRefusedError, match=r"^127\.0\.0\.1:\d+ does not answer as Stint does \(HTTP status \d+\)"
        ):
            await QUESTIONS[question](stint)


async def test_a_request_that_a_proxy_finds_too_large_is_called_so() -> None:
    async with _server(413, "Content-Type: text/html", b"<h1>Too Large</h1>") as where, Client.connect(where) as stint:
        with pytest.raises(ApiRefusedError, match="takes no request of this size") as caught:
            await QUESTIONS["send"](stint)
    assert not caught.value.doubtful


async def test_a_proxys_page_is_no_reason_why_the_api_is_not_ready() -> None:
    async with _server(502, "Content-Type: text/html", b"<h1>Bad gateway</h1>") as where:
        (found,) = await servers.look_at_api(where)
    assert "a proxy on the way there answers in Stint's place" in found.what
    assert "<" not in found.what


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1", "socks5h://127.0.0.1:1", "ftp://127.0.0.1:1"])
def test_a_proxy_of_another_kind_is_a_wrong_setting(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", address)
    with pytest.raises(ConfigError, match="ALL_PROXY: one is not the address of an HTTP proxy"):
        Client.connect(Endpoints(url="http://127.0.0.1:1", vault_addr="", token="t"))


async def test_a_proxy_that_lets_nobody_through_has_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _server(403, "", b"") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with Client.connect(Endpoints(url="https://stint.invalid", vault_addr="", token="t")) as stint:
            with pytest.raises(ApiUnreachableError, match="ProxyError: 403") as caught:
                await QUESTIONS["send"](stint)
    assert not caught.value.doubtful


async def test_vault_is_looked_for_where_all_else_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through no proxy from the environment."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with _server(500, "", b"") as where:
        (found,) = await servers.look_at_vault(where, None)
    assert found.what.endswith("answers with an error (500)")


async def test_a_command_that_is_advised_can_be_copied_whatever_the_queues_name() -> None:
    queue = b'{"qname":"a; $(reboot)","depth":1,"paused":{"who":"ops"}}'
    async with _server(200, "", b'{"data":[' + queue + b"]}") as where:
        assert "stint resume 'a; $(reboot)'" in (await servers.look_at_api(where))[-1].mend


async def test_a_queue_that_stands_still_is_found_behind_many_that_do_not() -> None:
    queues = [{"qname": f"q{number}"} for number in range(99)] + [{"qname": "z", "depth": 1, "served": False}]
    async with _server(200, "", json.dumps({"data": queues}).encode()) as where:
        assert (await servers.look_at_api(where))[-1].about == "queue 'z'"


async def test_a_queue_that_nobody_serves_is_told_of_before_those_that_wait_on_purpose() -> None:
    paused = {"depth": 1, "paused": {"who": "x", "at": "2026-01-02T03:04:05Z", "reason": ""}}
    queues = [{"qname": f"q{number}", **paused} for number in range(10)] + [{"qname": "z", "depth": 1, "served": False}]
    async with _server(200, "", json.dumps({"data": queues}).encode()) as where:
        found = [finding for finding in await servers.look_at_api(where) if finding.about.startswith("queue ")]
    assert [finding.verdict for finding in found] == ["bad", *["warn"] * 9]


@pytest.mark.parametrize("name", [name for name in ANSWERS if "next page" in name])
async def test_no_other_server_gets_the_token(name: str) -> None:
    async with _server(*ANSWERS[name]) as where, Client.connect(where) as stint:
        with pytest.raises(UnexpectedAnswerError, match="names no next page of its own"):
            await _all(stint.jobs())


def test_a_time_without_a_zone_is_none_of_stints() -> None:
    """It could not be compared with the present, and ended every table in a traceback."""
    job = {"_id": "0" * 24, "status": "success", "submitted": "2026-01-02T03:04:05Z"}
    assert read(job, JobInfo).submitted
    with pytest.raises(UnexpectedAnswerError, match="timezone"):
        read(job | {"submitted": "2026-01-02T03:04:05"}, JobInfo)


OVER: Final = {"_id": JOB, "status": "success", "return_code": 0, "reason": "", "error": "", "output_complete": True}
END: Final = b"event: end\nid: 2\ndata: " + json.dumps(OVER).encode() + b"\n\n"


@pytest.mark.parametrize("charset", ["hex", "undefined", "idna", "utf-16"])
async def test_a_live_stream_is_utf_8_whatever_its_type_says(charset: str) -> None:
    async with _server(200, f"{STREAM}; charset={charset}", END) as where, Client.connect(where) as stint:
        assert (await stint.job(JOB).wait()).succeeded


async def test_a_live_stream_that_an_error_leaves_is_closed() -> None:
    """Although the error's frames refer to it, and only the garbage collector finds that nobody else does."""
    ping = b": ping\n\n"
    async with _server(200, STREAM, ping, drip=ping) as where, Api(http_client(where)) as api:
        before = asyncio.all_tasks()

        async def read() -> None:
            items = api.events("/")
            async for _ in items:
                raise ValueError

        with pytest.raises(ValueError, match=r"^$"):
            await asyncio.create_task(read())
        gc.collect()
        async with asyncio.timeout(20):
            await until_true(lambda: asyncio.all_tasks() <= before)
