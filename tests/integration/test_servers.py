import asyncio
import os
from pathlib import Path

import httpx
import pytest
from nats.aio.client import Client

from tests.support.containers import OpenBao
from tests.support.servers import BaoProcess, NatsProcess


async def _client(url: str) -> Client:
    client = Client()
    await client.connect(url, allow_reconnect=False, connect_timeout=5)
    return client


async def _greeting(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_the_shared_nats_has_jetstream(nats_url: str) -> None:
    client = await _client(nats_url)
    account = await client.jetstream().account_info()
    await client.close()
    assert account.limits.max_streams == -1
    assert client.max_payload == 1024 * 1024


async def _whoami(address: str, token: str) -> int:
    async with httpx.AsyncClient(base_url=address) as client:
        answer = await client.get("/v1/auth/token/lookup-self", headers={"X-Vault-Token": token})
    return answer.status_code


async def test_the_shared_openbao_knows_its_root_token_only(openbao: OpenBao) -> None:
    assert await _whoami(openbao.address, openbao.root_token) == httpx.codes.OK
    assert await _whoami(openbao.address, "another") == httpx.codes.FORBIDDEN
    assert openbao.root_token not in repr(openbao)


async def test_nats_keeps_port_and_store_over_a_kill(nats_process: NatsProcess) -> None:
    client = await _client(nats_process.url)
    await client.jetstream().add_stream(name="S", subjects=["s"])
    await client.jetstream().publish("s", b"kept")
    await client.close()
    url, pid = nats_process.url, nats_process.pid

    await nats_process.kill()
    assert not nats_process.running
    with pytest.raises(ConnectionRefusedError):
        await _greeting(nats_process.port)

    await nats_process.start()
    assert (nats_process.url, nats_process.pid != pid) == (url, True)
    client = await _client(url)
    kept = await client.jetstream().get_last_msg("S", "s")
    await client.close()
    assert kept.data == b"kept"


async def test_a_paused_server_answers_nothing(nats_process: NatsProcess) -> None:
    nats_process.pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await _greeting(nats_process.port)
    nats_process.resume()
    assert (await _greeting(nats_process.port)).startswith(b"INFO ")


async def test_openbao_forgets_over_a_restart(bao_process: BaoProcess) -> None:
    headers = {"X-Vault-Token": bao_process.root_token}
    async with httpx.AsyncClient(base_url=bao_process.address, headers=headers) as client:
        await client.post("/v1/secret/data/a", json={"data": {"k": "v"}})
        assert (await client.get("/v1/secret/data/a")).status_code == httpx.codes.OK
        await bao_process.restart()
        assert (await client.get("/v1/secret/data/a")).status_code == httpx.codes.NOT_FOUND
    assert bao_process.root_token not in repr(bao_process)


async def test_a_server_that_ends_by_itself_shows_its_log(tmp_path: Path) -> None:
    server = NatsProcess(tmp_path, settings="no_such_setting: 1")
    with pytest.raises(RuntimeError, match="no_such_setting"):
        await server.start()
    assert not server.running


async def test_nothing_is_left_to_find() -> None:
    assert not list(Path.home().iterdir())
    assert "VAULT_TOKEN" not in os.environ
