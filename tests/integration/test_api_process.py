import asyncio
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from stint.client.api import Api, LiveEvent
from stint.core.subjects import queue_token
from stint.jetstream import Broker, JetStreamEventLog, JetStreamOutput
from stint.vault.setup import client_token
from tests.support import events
from tests.support.api_bench import SEALED, ApiProcess, secret, service_environ
from tests.support.containers import OpenBao
from tests.support.outputs import Writer
from tests.support.servers import BaoProcess, NatsProcess, free_port, running
from tests.support.waiting import until

PLAIN = {"wrap_secret_id": "not-looked-at", "qname": "deploys", "payload": SEALED}


@pytest.fixture
async def process(nats_process: NatsProcess, openbao: OpenBao, tmp_path: Path) -> AsyncIterator[ApiProcess]:
    environ = await service_environ(nats_process.url, openbao)
    async with running(server := ApiProcess(tmp_path / "api", environ=environ)):
        yield server


@pytest.fixture
async def http(process: ApiProcess, openbao: OpenBao) -> AsyncIterator[httpx.AsyncClient]:
    token = await client_token(openbao.address, openbao.root_token)
    async with httpx.AsyncClient(base_url=process.url, headers={"X-Auth-Token": token}, trust_env=False) as client:
        await becomes(client, "/readyz", 200)
        yield client


async def becomes(client: httpx.AsyncClient, path: str, status: int) -> httpx.Response:
    return await until(lambda: client.get(path), lambda answer: answer.status_code == status)


async def submitted(http: httpx.AsyncClient) -> str:
    # Ready means connected: the streams may still be in the making.
    answer = await until(lambda: http.post("/v1/api/job", json=PLAIN), lambda answer: answer.status_code == 200)
    return str(answer.json()["_id"])


async def test_a_live_stream_tells_all_as_it_comes(nats_process: NatsProcess, http: httpx.AsyncClient) -> None:
    job_id, token = await submitted(http), queue_token("deploys")
    broker = Broker(nats_process.url)
    broker.start()
    await broker.wait_connected()
    log, writer = JetStreamEventLog(broker), Writer(JetStreamOutput(broker), token, job_id)
    told: list[LiveEvent] = []
    async for event in Api(http).events(job_id):
        told.append(event)
        number = len(told)
        if number == 1:
            await log.append(token, job_id, events.started())
        elif number <= 6:
            await writer.write(b"\xff%d" % number)
        elif number == 7:
            await log.append(token, job_id, writer.counted(events.ended("failed", "exit_code", 3)))
    assert [event.name for event in told] == ["fact", "fact", *["output"] * 5, "fact", "end"]
    assert [event.data["number"] for event in told[2:7]] == [1, 2, 3, 4, 5]
    assert [event.data["kind"] for event in told if event.name == "fact"] == ["submitted", "started", "ended"]
    assert told[1].data["runner"] == "runner-1"
    assert {name: told[-2].data[name] for name in ("output_chunks", "output_bytes", "output_digest")} == {
        "output_chunks": 5,
        "output_bytes": 10,
        "output_digest": writer.chain.digest,
    }
    last = told[-1].data
    assert (last["status"], last["return_code"], last["output_complete"]) == ("failed", 3, True)
    job = (await http.get(f"/v1/api/job/{job_id}")).json()
    assert job["output"] == "".join(f"\ufffd{number}" for number in range(2, 7))
    await broker.close()


async def test_a_client_that_leaves_frees_its_subscriptions(
    openbao: OpenBao, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    monitor = free_port()
    nats = NatsProcess(tmp_path / "monitored", settings=f'http: "127.0.0.1:{monitor}"')
    async with running(nats):
        environ = await service_environ(nats.url, openbao)
        async with (
            running(server := ApiProcess(tmp_path / "other", environ=environ)),
            httpx.AsyncClient(base_url=server.url, headers=http.headers, trust_env=False) as client,
        ):
            job_id = await submitted(client)
            async with client.stream("GET", f"/v1/api/job/{job_id}/events") as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                await anext(answer.aiter_lines())
                assert await listeners(monitor, job_id) == 2
            await until(lambda: listeners(monitor, job_id), lambda found: not found)


async def listeners(monitor: int, job_id: str) -> int:
    """Subscriptions that name this job, as the server's own monitor sees them."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{monitor}/subsz?subs=1&limit=1000")
    return sum(job_id in found["subject"] for found in answer.json()["subscriptions_list"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(process: ApiProcess, http: httpx.AsyncClient, number: signal.Signals) -> None:
    job_id = await submitted(http)
    async with http.stream("GET", f"/v1/api/job/{job_id}/events") as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        process.signal(number)
        rest = [line async for line in lines]
    assert "event: end" not in rest
    async with asyncio.timeout(10):
        assert await process.exit_code() == 0


async def test_too_large_a_body_gets_its_answer_over_a_socket(http: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * (1 << 20)

    answer = await http.post("/v1/api/job", content=pieces())
    assert (answer.status_code, answer.json()["status"]) == (413, "Too Large.")
    announced = await http.post("/v1/api/job", content=b"x" * (31 << 20))
    assert announced.status_code == 413


async def test_a_large_plain_job_is_taken(http: httpx.AsyncClient) -> None:
    await submitted(http)
    body = {"wrap_secret_id": "x", "container_image": "busybox", "content": "x" * (20 << 20)}
    answer = await http.post("/v1/api/job", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    body["content"] = "x" * (29 << 20)
    assert (await http.post("/v1/api/job", json=body, timeout=60)).status_code == 413


async def test_no_secret_reaches_the_store_or_the_log(
    process: ApiProcess, nats_process: NatsProcess, http: httpx.AsyncClient
) -> None:
    await submitted(http)
    hidden = [secret() for _ in range(4)]
    wrapped, value, cubby, token = hidden
    plain = {"wrap_secret_id": wrapped, "container_image": "busybox", "env_vars": [f"A={value}"]}
    assert (await http.post("/v1/api/job", json=plain)).status_code == 200
    spent = {**PLAIN, "cubby_token": cubby, "cubby_path": "cubbyhole/job"}
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


async def test_it_serves_before_nats_and_vault_are_there(
    nats_process: NatsProcess, bao_process: BaoProcess, tmp_path: Path
) -> None:
    environ = await service_environ(nats_process.url, bao_process)
    token = await client_token(bao_process.address, bao_process.root_token)
    await nats_process.kill()
    async with (
        running(server := ApiProcess(tmp_path / "api", environ=environ)),
        httpx.AsyncClient(base_url=server.url, headers={"X-Auth-Token": token}, trust_env=False) as http,
    ):
        assert "NATS" in (await becomes(http, "/readyz", 503)).text
        for method, path in [("POST", ""), ("GET", ""), ("GET", "/" + "0" * 24), ("DELETE", "/" + "0" * 24)]:
            answer = await http.request(method, f"/v1/api/job{path}", json=PLAIN if method == "POST" else None)
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


async def test_https(nats_process: NatsProcess, openbao: OpenBao, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    names = ["-subj", "/CN=stint", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*command, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)  # noqa: ASYNC221 - short
    environ = await service_environ(nats_process.url, openbao)
    environ |= {"STINT_TLS_CERT": str(cert), "STINT_TLS_KEY": str(key), "STINT_HOST": "127.0.0.1"}
    async with running(server := ApiProcess(tmp_path / "api", environ=environ, ca=str(cert))):
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=str(cert)), trust_env=False) as client:
            assert (await client.get(f"{server.url}/healthz")).status_code == 200
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{server.url}/healthz")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "STINT_API_ROLE_ID"),
        ({"STINT_API_ROLE_ID": "r", "STINT_API_SECRET_ID": "x", "STINT_PORT": "99999"}, "STINT_PORT"),
        ({"STINT_API_ROLE_ID": "r", "STINT_API_SECRET_ID": "x", "VAULT_ADDR": "nonsense"}, "VAULT_ADDR"),
        (
            {"STINT_API_ROLE_ID": "r", "STINT_API_SECRET_ID": "x", "STINT_TLS_CERT": "/no", "STINT_TLS_KEY": "/no"},
            "STINT_TLS_CERT",
        ),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_2(environ: dict[str, str], named: str) -> None:
    environ = {"STINT_PORT": "0", **environ}
    ended = subprocess.run(
        [sys.executable, "-m", "stint_api"], env=environ, check=False, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("stint: ")
    assert named in ended.stderr
    assert ended.stderr.count("\n") == 1
