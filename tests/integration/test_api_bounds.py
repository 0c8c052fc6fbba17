"""What one client, or many, can make an API process hold: memory, connections, time and open streams."""

import asyncio
import json
import re
import resource
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import pytest

from stint.vault.setup import client_token
from tests.support import memory
from tests.support.api_bench import BODY, Api, ApiProcess, api_process, service_environ, submitted
from tests.support.servers import NatsProcess, OpenBao, running
from tests.support.waiting import until, until_true

MIB = 1 << 20
JOB = "/v1/api/job"

Start = Callable[..., Awaitable[Api]]


@pytest.fixture(scope="module")
async def start(nats: NatsProcess, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Start]:
    """An API process with these settings, and a client of it; who has the same settings shares them."""
    made: dict[frozenset[tuple[str, str]], Api] = {}
    async with AsyncExitStack() as stack:

        async def started(**settings: str) -> Api:
            key = frozenset(settings.items())
            if key not in made:
                starting = api_process(tmp_path_factory.mktemp("api"), nats.url, openbao, **settings)
                made[key] = await stack.enter_async_context(starting)
            return made[key]

        yield started


async def becomes(http: httpx.AsyncClient, body: bytes, code: int) -> httpx.Response:
    """The first answer to this submission that has this status."""
    return await until(lambda: http.post(JOB, content=body), lambda answer: answer.status_code == code)


class Sockets(AsyncExitStack):
    async def send(self, process: ApiProcess, *pieces: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new one, on which these bytes were sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        self.push_async_callback(self._close, writer)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return reader, writer

    async def answers(self, process: ApiProcess, *pieces: bytes) -> bytes:
        """What comes on a new one, until the server closes it."""
        return await rest((await self.send(process, *pieces))[0])

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def sockets() -> AsyncIterator[Sockets]:
    async with Sockets() as sockets:
        yield sockets


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server closes the connection; a client that still sends may see that as a reset."""
    found = b""
    async with asyncio.timeout(60):
        with suppress(ConnectionResetError):
            while piece := await reader.read(MIB):
                found += piece
    return found


def head(http: httpx.AsyncClient, length: int | None, *lines: str, token: str = "") -> bytes:
    """Of a submission of so many bytes, None if it comes in chunks."""
    token = f"X-Auth-Token: {token or http.headers['X-Auth-Token']}"
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return "\r\n".join([f"POST {JOB} HTTP/1.1", "Host: api", token, size, *lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("bomb", "code"),
    [
        (b'{"zzz":[' + b"[]," * (10 * MIB - 4) + b"[]]}", 400),
        (b'{"run":[' + b'"",' * (10 * MIB - 4) + b'""]}', 400),
        (b'{"a":1' + b',"":1' * (6 * MIB - 2) + b"}", 400),
        (b'{"zzz":' + b"[" * (15 * MIB - 8) + b"]" * (15 * MIB - 8) + b"}", 400),
        (b'{"zzz":"' + b"\\n" * (15 * MIB - 8) + b'"}', 400),
        (b'{"wrap_secret_id":' + b" " * (30 * MIB - 32) + b'"x"}', 413),
    ],
    ids=["arrays", "strings", "fields", "depth", "escapes", "spaces"],
)
async def test_a_json_bomb_costs_little(start: Start, bomb: bytes, code: int) -> None:
    process, http = await start()
    before = memory.from_now(process.pid)
    answer = await http.post(JOB, content=bomb)
    assert (answer.status_code, answer.json()["error"].startswith("JSON with more than")) == (code, True)
    assert memory.peak(process.pid) - before < 30 * MIB


@pytest.mark.soak
@pytest.mark.parametrize("letter", ["x", "\U0001f600"], ids=["ascii", "wide"])
async def test_large_submissions_are_bounded(nats: NatsProcess, openbao: OpenBao, tmp_path: Path, letter: str) -> None:
    """A string with one character outside of ASCII takes four times its bytes."""
    body = {"wrap_secret_id": "x", "container_image": "busybox", "env_vars": [f"A={letter}{'x' * 20 * MIB}"]}
    async with api_process(tmp_path, nats.url, openbao) as (process, http):
        answers = await asyncio.gather(*(http.post(JOB, json=body) for _ in range(12)))
        highest = memory.peak(process.pid)
        refused = [answer for answer in answers if answer.status_code == 503]
        assert {answer.status_code for answer in answers} == {200, 503}
        assert {answer.headers["Retry-After"] for answer in refused} == {"5"}
        assert {answer.json()["status"] for answer in refused} == {"Service Unavailable."}
        assert (await http.post(JOB, json=body)).status_code == 200, "all of it was given back"
    assert highest < 640 * MIB


async def test_bytes_count_as_they_come_and_are_given_back(start: Start, sockets: Sockets, openbao: OpenBao) -> None:
    piece = b'{"content": "' + b"x" * (28 * MIB)
    process, http = await start()
    for _ in range(2):
        other = await client_token(openbao.address, openbao.root_token)
        await sockets.send(process, head(http, 29 * MIB, token=other), piece)
    large = b'{"content": "' + b"x" * (10 * MIB)
    answer = await becomes(http, large, 503)
    assert "as many bytes of requests as it may" in answer.json()["error"]
    announced, _ = await sockets.send(process, head(http, 10 * MIB))
    assert (await announced.readline()).startswith(b"HTTP/1.1 503 "), "before any of it is sent"
    assert (await http.post(JOB, json=BODY)).status_code == 200, "a small one finds room"
    await sockets.aclose()
    await becomes(http, large, 400)


async def test_one_caller_leaves_room_for_others_requests(start: Start, sockets: Sockets, openbao: OpenBao) -> None:
    process, http = await start()
    large = b'{"content": "' + b"x" * (28 * MIB)
    await sockets.send(process, head(http, 29 * MIB), large)
    refused = await becomes(http, large, 503)
    assert "as many bytes of this caller's requests as it may" in refused.json()["error"]
    assert refused.headers["Retry-After"] == "5"
    other = {"X-Auth-Token": await client_token(openbao.address, openbao.root_token)}
    assert (await http.post(JOB, content=large, headers=other)).status_code == 400


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_sends_all_before_it_reads_gets_413(start: Start, sockets: Sockets, chunked: bool) -> None:
    process, http = await start()
    if chunked:
        pieces = [head(http, None), *[b"%x\r\n%b\r\n" % (MIB, bytes(MIB))] * 40, b"0\r\n\r\n"]
    else:
        pieces = [head(http, 40 * MIB), *[bytes(MIB)] * 40]
    reader, _ = await sockets.send(process, *pieces)
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    assert b"content-type: application/json" in await reader.readuntil(b"\r\n\r\n")
    assert json.loads(await reader.readline())["status"] == "Too Large."


async def test_who_waits_for_a_100_gets_the_413_in_its_place(start: Start, sockets: Sockets) -> None:
    process, http = await start()
    reader, _ = await sockets.send(process, head(http, 31 * MIB, "Expect: 100-continue"))
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")


async def test_a_head_without_an_end_is_refused(start: Start, sockets: Sockets) -> None:
    process, _ = await start()
    for begin in (b"GET /healthz HTTP/1.1\r\nX-Long: ", b"GET /healthz?"):
        assert (await sockets.answers(process, begin + b"a" * 65_536)).startswith(b"HTTP/1.1 400 ")


async def test_a_few_requests_but_not_many_may_come_ahead_of_their_answers(start: Start, sockets: Sockets) -> None:
    process, http = await start()
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    post, last = head(http, 2) + b"{}", get.replace(b"Host", b"Connection: close\r\nHost")
    found = await sockets.answers(process, get + post + get * 10 + last)
    assert re.findall(rb"HTTP/1.1 (\d+) ", found) == [b"200", b"400", *[b"200"] * 11]
    assert (await sockets.answers(process, get * 10_000)).count(b"HTTP/1.1 ") < 10_000
    trailers = (b"2\r\n{}\r\n0\r\n", b"X-Trailer: a\r\n" * 1000, b"\r\n" + get)
    reader, _ = await sockets.send(process, head(http, None), *trailers)
    assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    await reader.readuntil(b"ok\n")


SHORT = {"STINT_REQUEST_TIMEOUT": "0.5"}


async def test_half_a_head_is_not_waited_for(start: Start, sockets: Sockets) -> None:
    process, http = await start(**SHORT)
    halves = [
        await sockets.send(process, b"GET /healthz HTTP/1.1\r\nX-Half: "),
        await sockets.send(process, b"G"),
        await sockets.send(process, head(http, 5)[:-2]),
        await sockets.send(process, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /hea"),
    ]
    silent, _ = await sockets.send(process)
    for reader, _ in halves:
        answer = await rest(reader)
        assert b"HTTP/1.1 408 " in answer
        assert b'"status":"Request Timeout."' in answer
    assert await rest(silent) == b""


@pytest.mark.parametrize("expect", [False, True])
async def test_half_a_body_is_not_waited_for(start: Start, sockets: Sockets, expect: bool) -> None:
    process, http = await start(**SHORT)
    reader, writer = await sockets.send(process, head(http, 1000, *(["Expect: 100-continue"] if expect else [])))
    if expect:
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b'{"qname":')
    assert b"HTTP/1.1 408 " in await rest(reader)


@pytest.mark.soak
async def test_a_body_that_comes_too_slowly_is_given_up_but_a_steady_one_not(start: Start, sockets: Sockets) -> None:
    body = b'{"wrap_secret_id": "x", "payload": "vault:v1:%b"}' % (b"A" * 4000)
    process, http = await start(STINT_REQUEST_TIMEOUT="1", STINT_BODY_RATE="200")
    steady, slow = [await sockets.send(process, head(http, len(body))) for _ in range(2)]

    async def trickle(writer: asyncio.StreamWriter, size: int) -> None:
        for place in range(0, len(body), size):
            if writer.is_closing():
                return
            writer.write(body[place : place + size])
            await asyncio.sleep(0.1)  # the pace is what is tested

    tasks = [asyncio.create_task(trickle(steady[1], 200)), asyncio.create_task(trickle(slow[1], 2))]
    assert b"HTTP/1.1 408 " in await rest(slow[0])
    assert (await steady[0].readline()).startswith(b"HTTP/1.1 200 ")
    await asyncio.gather(*tasks)


@pytest.mark.soak
async def test_a_whole_body_has_its_time_however_steadily_it_comes(start: Start, sockets: Sockets) -> None:
    process, http = await start(**SHORT, STINT_BODY_TIMEOUT="1.5")
    reader, writer = await sockets.send(process, head(http, 30 * MIB))
    answer = asyncio.create_task(rest(reader))
    while not answer.done():
        writer.write(bytes(10_000))
        await asyncio.sleep(0.05)  # the pace is what is tested
    assert b"HTTP/1.1 408 " in await answer
    assert b"did not come in time" in await answer


@pytest.fixture
async def tls(nats: NatsProcess, openbao: OpenBao, certificates: Path, tmp_path: Path) -> AsyncIterator[ApiProcess]:
    """An API that serves TLS to two connections at a time, one second each to agree on it."""
    environ = await service_environ(nats.url, openbao)
    environ |= {"STINT_TLS_CERT": f"{certificates}/server-cert.pem", "STINT_TLS_KEY": f"{certificates}/server-key.pem"}
    environ |= {"STINT_HOST": "127.0.0.1", "STINT_REQUEST_TIMEOUT": "1", "STINT_CONNECTIONS": "2"}
    async with running(process := ApiProcess(tmp_path / "api", environ=environ, ca=f"{certificates}/ca.pem")):
        yield process


async def test_connections_count_and_are_timed_before_tls_is_agreed_on(tls: ApiProcess, sockets: Sockets) -> None:
    verify = ssl.create_default_context(cafile=tls.ca)

    async def answered() -> bool:
        try:
            async with httpx.AsyncClient(verify=verify, base_url=tls.url, trust_env=False) as http:
                return (await http.get("/healthz")).status_code == 200
        except httpx.TransportError:
            return False

    await until(answered)  # the connection that looked whether it is ready has gone
    silent = [await sockets.send(tls) for _ in range(2)]
    assert await sockets.answers(tls) == b"", "a third one is closed at once"
    async with asyncio.timeout(20):
        assert [await rest(reader) for reader, _ in silent] == [b"", b""]
    assert await answered()


async def test_the_rest_of_a_refused_body_is_not_read_for_ever(start: Start, sockets: Sockets) -> None:
    """It comes at a good pace, but has no end."""
    process, http = await start(**SHORT)
    reader, writer = await sockets.send(process, head(http, 1 << 40))
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")

    async def endless() -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(bytes(10_000))
                await writer.drain()
                await asyncio.sleep(0.05)  # the pace is what is tested

    async with asyncio.timeout(30):
        await asyncio.gather(endless(), rest(reader))


async def test_a_client_of_a_silent_stream_is_not_cut_off(start: Start) -> None:
    """It has sent all that it owes."""
    _, http = await start(**SHORT)
    job_id = await submitted(http)
    async with http.stream("GET", f"{JOB}/{job_id}/events") as answer:
        lines = answer.aiter_lines()
        while not (await anext(lines)).startswith("data: "):
            pass
        rest_of_it = asyncio.create_task(_all(lines))
        done, _ = await asyncio.wait({rest_of_it}, timeout=4 * float(SHORT["STINT_REQUEST_TIMEOUT"]))
        assert not done
        assert (await http.post(f"{JOB}/kill/{job_id}")).status_code == 200
        assert "event: end" in await rest_of_it


async def _all(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]


async def test_there_are_only_so_many_connections(start: Start, sockets: Sockets) -> None:
    process, http = await start(STINT_CONNECTIONS="5")
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(4):  # and that of `http`
        reader, _ = await sockets.send(process, get)
        await reader.readuntil(b"ok\n")
    answer = await sockets.answers(process)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5\r\n" in answer.lower()
    assert (await http.get("/healthz")).status_code == 200, "those that are there go on"
    await sockets.aclose()
    closing = get.replace(b"Host", b"Connection: close\r\nHost")
    await until(lambda: sockets.answers(process, closing), lambda found: found.startswith(b"HTTP/1.1 200 "))


async def test_a_caller_has_only_so_many_streams(start: Start, openbao: OpenBao) -> None:
    _, http = await start(STINT_STREAMS="2")
    events = f"{JOB}/{await submitted(http)}/events"
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(http.stream("GET", events)) for _ in range(2)]
        assert [answer.status_code for answer in opened] == [200, 200]
        for path in (events, "/v1/api/events"):
            more = await http.get(path)
            assert (more.status_code, more.json()["status"]) == (429, "Too Many Requests.")
            assert more.headers["Retry-After"] == "5"
        other = {"X-Auth-Token": await client_token(openbao.address, openbao.root_token)}
        async with http.stream("GET", events, headers=other) as answer:
            assert answer.status_code == 200

    async def status() -> int:
        async with http.stream("GET", events) as answer:
            return answer.status_code

    await until(status, lambda code: code == 200)


async def test_the_access_log_has_requests_that_no_route_saw(start: Start, sockets: Sockets) -> None:
    process, http = await start(STINT_REQUEST_TIMEOUT="2", STINT_CONNECTIONS="2")
    late, _ = await sockets.send(process, b"GET /healthz HTTP/1.1\r\nX-Half: ")
    assert b"HTTP/1.1 503 " in await sockets.answers(process)
    assert b"HTTP/1.1 408 " in await rest(late)
    assert b"HTTP/1.1 408 " in await sockets.answers(process, head(http, 1000), b"{")
    _, left = await sockets.send(process, head(http, 1000), b"{")
    left.close()
    async with http.stream("GET", f"{JOB}/{await submitted(http)}/events") as answer:
        await anext(answer.aiter_raw())

    def shown() -> list[tuple[str, str, int]]:
        found = [line for line in process.said("request") if line["status"] not in {200, 503}]
        return [(line["method"], line["route"], line["status"]) for line in found]

    await until_true(lambda: len(shown()) >= 3)
    _, left = await sockets.send(process, b"POST /session HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"token")
    left.close()
    await until_true(lambda: len(shown()) >= 4)
    assert shown() == [("", "", 408), ("POST", JOB, 408), ("POST", JOB, 499), ("POST", "/session", 499)]
    assert '"status": 503' in process.log
    await until_true(lambda: '"complete": false' in process.log)


CHUNKED = b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_what_is_not_http_costs_no_traceback(start: Start, sockets: Sockets) -> None:
    """Before an answer it is refused, with one line in the access log. Behind one the connection just ends."""
    process, http = await start(STINT_REQUEST_TIMEOUT="20")
    token = f"X-Auth-Token: {http.headers['X-Auth-Token']}\r\n".encode()
    events = f"{JOB}/{await submitted(http)}/events".encode()
    for request in (b"ZZZ\r\n\r\n", b"GET /healthz HTTP/1.1\r\n" + CHUNKED + b"ZZZ\r\n"):
        assert (await sockets.answers(process, request)).startswith(b"HTTP/1.1 400 ")
    post = b"POST " + JOB.encode() + b" HTTP/1.1\r\n" + token + CHUNKED
    assert (await sockets.answers(process, post, b"ZZZ\r\n")).startswith(b"HTTP/1.1 400 ")
    for path, sign in ((b"/healthz", b"ok\n"), (events, b"event: ")):
        reader, writer = await sockets.send(process, b"GET " + path + b" HTTP/1.1\r\n" + token + CHUNKED)
        await reader.readuntil(sign)
        writer.write(b"ZZZ\r\n")
        await rest(reader)
    upgrade = b"Connection: upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    answer = await sockets.answers(process, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + upgrade)
    assert answer.startswith(b"HTTP/1.1 200 ")

    def refused() -> list[str]:
        return [line for line in process.log.splitlines() if '"status": 400' in line]

    await until_true(lambda: len(refused()) >= 3)
    assert len(refused()) == 3
    assert "Traceback" not in process.log
    assert "websocket" not in process.log.lower()


async def test_a_body_behind_an_upgrade_is_refused_and_never_taken_for_requests(start: Start, sockets: Sockets) -> None:
    process, http = await start(STINT_REQUEST_TIMEOUT="20")
    upgrade, smuggled = ("Connection: Upgrade", "Upgrade: h2c"), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for length in (len(smuggled), None):
        answer = await sockets.answers(process, head(http, length, *upgrade), smuggled)
        assert (answer[:13], answer.count(b"HTTP/1.1 ")) == (b"HTTP/1.1 400 ", 1)
        assert b"Send it without the header Upgrade." in answer
    bodiless = head(http, 0, "Connection: Upgrade, close", "Upgrade: h2c")
    assert b'"error":"EOF"' in await sockets.answers(process, bodiless), "there is nothing to mistake"
    asks = smuggled.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    answer = await sockets.answers(process, asks + smuggled)
    assert (answer.count(b"HTTP/1.1 200 "), b"connection: close" in answer.lower()) == (1, True)


async def test_a_length_of_thousands_of_digits_is_a_number_as_well(start: Start, sockets: Sockets) -> None:
    process, http = await start(STINT_REQUEST_TIMEOUT="20")
    long = head(http, 2, "Connection: close").replace(b"Length: 2", b"Length: " + b"0" * 5000 + b"2")
    answer = await sockets.answers(process, long, b"{}")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Wrapping Token must be present" in answer


async def test_a_burst_of_connections_does_not_use_up_file_descriptors(start: Start, sockets: Sockets) -> None:
    process, http = await start(STINT_CONNECTIONS="100")
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (220, 220))
    await asyncio.gather(*(sockets.send(process) for _ in range(600)))
    assert (await http.get("/healthz")).status_code == 200
    assert "Too many open files" not in process.log
    assert "Traceback" not in process.log
