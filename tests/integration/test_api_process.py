"""The API as a process: its start, its end, what it keeps to itself, its health check, and a connection that breaks."""

import asyncio
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from stint.cli.services.health import url
from stint.process.environment import load
from stint.process.settings import ApiSettings
from stint_api.web.connections import limited
from stint_api.web.server import tls_context
from tests.support.api_bench import (
    BODY,
    Api,
    ApiProcess,
    api_process,
    becomes,
    secret,
    service_environ,
    starting_api,
    submitted,
)
from tests.support.ports import free_port
from tests.support.servers import BaoProcess, NatsProcess, OpenBao, running
from tests.support.stack import STINT, finished
from tests.support.waiting import until


@pytest.fixture
async def own(nats_process: NatsProcess, openbao: OpenBao, tmp_path: Path) -> AsyncIterator[Api]:
    async with api_process(tmp_path / "api", nats_process.url, openbao) as own:
        yield own


async def test_a_client_that_leaves_frees_its_subscriptions(openbao: OpenBao, tmp_path: Path) -> None:
    monitor = free_port()
    nats = NatsProcess(tmp_path / "monitored", settings=f'http: "127.0.0.1:{monitor}"')
    async with running(nats), api_process(tmp_path / "api", nats.url, openbao) as (_, http):
        job_id = await submitted(http)
        async with http.stream("GET", f"/v1/api/job/{job_id}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.aiter_lines()  # an iterator that nobody has any more closes its connection
            await anext(lines)
            await until(lambda: listeners(monitor, job_id), lambda found: found == 1)
        await until(lambda: listeners(monitor, job_id), lambda found: not found)


async def listeners(monitor: int, job_id: str) -> int:
    """Subscriptions that name this job, as the server's own monitor sees them."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{monitor}/subsz?subs=1&limit=1000")
    return sum(job_id in found["subject"] for found in answer.json()["subscriptions_list"])


async def test_all_addresses_are_those_of_ipv4_too(nats_process: NatsProcess, openbao: OpenBao, tmp_path: Path) -> None:
    async with api_process(tmp_path, nats_process.url, openbao, STINT_HOST="::") as (process, http):
        for host in ("127.0.0.1", "[::1]"):
            paused = await http.post(f"http://{host}:{process.port}/v1/api/queue/both/pause")
            assert paused.is_success
        found = await until(
            lambda: http.get("/v1/api/audit?qname=both"),
            lambda answer: answer.is_success and len(answer.json()["data"]) > 1,  # before, the audit may be incomplete
        )
        assert [entry["from"] for entry in found.json()["data"]] == ["::1", "127.0.0.1"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(own: Api, number: signal.Signals) -> None:
    process, http = own
    async with http.stream("GET", f"/v1/api/job/{await submitted(http)}/events") as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        process.signal(number)
        rest = [line async for line in lines]
    assert "event: end" not in rest
    async with asyncio.timeout(10):
        assert await process.exit_code() == 0


async def test_another_signal_ends_it_without_its_requests(own: Api) -> None:
    process, http = own
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    writer.write(b"POST /v1/api/job HTTP/1.1\r\nHost: stint\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n")
    writer.write(f"X-Auth-Token: {http.headers['x-auth-token']}\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    process.signal(signal.SIGTERM)
    with pytest.raises(httpx.TransportError):  # once it listens no more
        await until(lambda: http.get("/healthz", headers={"Connection": "close"}), lambda _answer: False)
    process.signal(signal.SIGTERM)
    assert b"HTTP/1.1 503 " in await reader.read()
    assert await process.exit_code() == 0
    assert "Traceback" not in process.log
    assert not process.said("background task ended, restarting it")
    writer.close()


async def test_no_secret_reaches_the_store_or_the_log(own: Api, nats_process: NatsProcess) -> None:
    process, http = own
    await submitted(http)
    hidden = [secret() for _ in range(4)]
    wrapped, value, cubby, token = hidden
    plain = {"wrap_secret_id": wrapped, "container_image": "busybox", "env_vars": [f"A={value}"]}
    assert (await http.post("/v1/api/job", json=plain)).status_code == 200
    spent = {**BODY, "cubby_token": cubby, "cubby_path": "cubbyhole/job"}
    assert (await http.post("/v1/api/job", json=spent)).status_code == 500
    assert (await http.post("/v1/api/job", content=f'{{"run": "{value}"}}')).status_code == 400
    assert (await http.get("/v1/api/job", headers={"X-Auth-Token": token})).status_code == 403
    hidden.append(http.headers["X-Auth-Token"])
    await process.stop()
    stored = b"".join(path.read_bytes() for path in nats_process.data_dir.rglob("*") if path.is_file())
    assert b"token-stint-client" in stored
    assert [text for text in hidden if text.encode() in stored] == []
    assert "api listening" in process.log
    assert [text for text in hidden if text in process.log] == []


@pytest.mark.soak
async def test_it_serves_before_nats_and_vault_are_there(nats_process: NatsProcess, bao_process: BaoProcess) -> None:
    await nats_process.kill()
    async with starting_api(nats_process.url, bao_process) as bench:
        http = bench.http
        assert "NATS" in (await becomes(http, "/readyz", 503)).text
        for method, path in [("POST", ""), ("GET", ""), ("GET", "/" + "0" * 24), ("DELETE", "/" + "0" * 24)]:
            answer = await http.request(method, f"/v1/api/job{path}", json=BODY if method == "POST" else None)
            assert (answer.status_code, answer.json()["status"]) == (503, "Service Unavailable."), (method, path)
            assert "NATS" in answer.json()["error"]
        assert (await http.get("/v1/api/health")).status_code == 503
        await nats_process.start()
        await becomes(http, "/readyz", 200)
        job_id = await submitted(http)
        await becomes(http, "/v1/api/job", 200)

        await nats_process.kill()
        assert (await becomes(http, f"/v1/api/job/{job_id}", 503)).json()["error"]
        assert (await http.get("/v1/api/job")).status_code == 200  # the index stands still
        await nats_process.start()
        assert (await becomes(http, f"/v1/api/job/{job_id}", 200)).json()["status"] == "queued"

        await bao_process.kill()
        down = await http.get("/v1/api/job", headers={"X-Auth-Token": "another"})
        assert (down.status_code, "Vault" in down.json()["error"]) == (503, True)
        assert "Vault" in (await becomes(http, "/readyz", 503)).text


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"VAULT_ADDR": "nonsense"}, "VAULT_ADDR"), ({"STINT_TLS_CERT": "/no", "STINT_TLS_KEY": "/no"}, "STINT_TLS_CERT")],
)
async def test_a_wrong_setting_is_one_sentence_and_2(settings: dict[str, str], named: str) -> None:
    """More of them in `e2e/test_dev.py`."""
    environ = {"STINT_PORT": "0", "STINT_API_ROLE_ID": "r", "STINT_API_SECRET_ID": "x", **settings}
    ended = await finished(sys.executable, "-m", "stint_api", env=environ)
    assert ended.code == 2
    assert ended.err.startswith("stint: ")
    assert named in ended.err
    assert ended.err.count("\n") == 1


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    """More than the kernel takes for a client that does not read."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(64 << 20)})


@pytest.mark.soak
async def test_a_tls_connection_that_breaks_as_its_reader_is_looked_at_is_no_error(certificates: Path) -> None:
    """asyncio takes the socket away from it one turn of the loop before it says that the connection is lost."""
    environ = {"STINT_API_ROLE_ID": "r", "STINT_API_SECRET_ID": "s"}
    environ |= {f"STINT_TLS_{name.upper()}": f"{certificates}/server-{name}.pem" for name in ("cert", "key")}
    settings = load(ApiSettings, environ)
    loop, config = asyncio.get_running_loop(), uvicorn.Config(answer, log_config=None)
    config.load()
    waits, lost = loop.create_future(), asyncio.Event()

    class Watched(limited(settings, tls_context(settings))):  # type: ignore[misc] # its class is made
        def pause_writing(self) -> None:
            super().pause_writing()
            waits.set_result(self)

        def break_off(self) -> None:
            """Lose the connection, and let the timer be due in the turn of the loop in which asyncio notices."""
            self._transports[0].abort()
            loop.call_soon(self._measure_reader, 0)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    server = await loop.create_server(lambda: Watched(config, ServerState(), {}), "127.0.0.1", 0)
    async with server, asyncio.timeout(20):
        verify = ssl.create_default_context(cafile=certificates / "ca.pem")
        _reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=verify, limit=1)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        (await waits).break_off()
        await lost.wait()
        writer.transport.abort()
    assert errors == []


GIVEN = {"STINT_API_ROLE_ID": "a", "STINT_API_SECRET_ID": "b"}


async def check(service: str, environ: Mapping[str, str]) -> tuple[int | None, str]:
    ended = await finished(STINT, "health", service, env=environ)
    return ended.code, ended.out.strip()


def in_files(folder: Path, values: Mapping[str, str]) -> dict[str, str]:
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")
    return {f"{name}_FILE": str(folder / name) for name in values}


async def test_an_api_with_the_settings_of_gostint_and_in_files_is_healthy(
    nats_process: NatsProcess, openbao: OpenBao, certificates: Path, tmp_path: Path
) -> None:
    environ = await service_environ(nats_process.url, openbao)
    for name in ("cert", "key"):
        environ[f"GOSTINT_SSL_{name.upper()}"] = str(certificates / f"server-{name}.pem")
    port = free_port()
    environ |= in_files(tmp_path, {"STINT_PORT": str(port), "STINT_HOST": "127.0.0.1"})
    process = ApiProcess(tmp_path / "api", environ=environ, ca=str(certificates / "ca.pem"))
    async with running(process), asyncio.timeout(60):
        await until(lambda: check("api", environ), lambda found: found == (0, ""))
        # It is for the others' port, and compose gives the same settings to all.
        assert await check("api", environ | {"STINT_HEALTH_PORT": str(free_port())}) == (0, "")
        await nats_process.kill()
        await until(lambda: check("api", environ), lambda found: found == (1, "NATS is not reachable."))
    code, said = await check("api", environ)
    assert (code, "refused" in said) == (1, True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "http://127.0.0.1:3232/readyz"),
        ({"GOSTINT_PORT": "4000", "STINT_HOST": "0.0.0.0"}, "http://127.0.0.1:4000/readyz"),  # noqa: S104 - a text
        ({"GOSTINT_SSL_CERT": "c", "GOSTINT_SSL_KEY": "k"}, "https://127.0.0.1:3232/readyz"),
        ({"STINT_HOST": "::"}, "http://[::1]:3232/readyz"),
        ({"STINT_HOST": "fd00::5"}, "http://[fd00::5]:3232/readyz"),
        ({"STINT_HOST": "192.0.2.5"}, "http://192.0.2.5:3232/readyz"),
        ({"STINT_HOST": "stint.example"}, "http://stint.example:3232/readyz"),
    ],
)
def test_where_an_api_is_asked(settings: dict[str, str], expected: str) -> None:
    assert url("api", GIVEN | settings) == expected


async def test_the_others_are_asked_on_their_health_port_and_a_free_port_is_read_from_its_report(
    tmp_path: Path,
) -> None:
    assert url("runner", {"STINT_HEALTH_PORT": "8080"}) == "http://127.0.0.1:8080/readyz"
    assert url("projector", in_files(tmp_path, {"STINT_HEALTH_PORT": "9"})) == "http://127.0.0.1:9/readyz"
    assert await check("runner", {}) == (1, "STINT_HEALTH_PORT: the health check must know the port.")
    code, said = await check("api", {**GIVEN, "STINT_PORT": "x"})
    assert (code, said[:11]) == (1, "STINT_PORT:")
    (tmp_path / "port").write_text("4711\n")
    settings = GIVEN | {"STINT_PORT": "0", "STINT_PORT_REPORT": str(tmp_path / "port")}
    assert url("api", settings) == "http://127.0.0.1:4711/readyz"
