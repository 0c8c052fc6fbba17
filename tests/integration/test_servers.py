import asyncio
import os
from pathlib import Path

import pytest

from tests.support.servers import NatsProcess


async def _greeting(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_paused_server_answers_nothing(nats_process: NatsProcess) -> None:
    nats_process.pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await _greeting(nats_process.port)
    nats_process.resume()
    assert (await _greeting(nats_process.port)).startswith(b"INFO ")


async def test_a_server_that_ends_by_itself_shows_its_log(tmp_path: Path) -> None:
    server = NatsProcess(tmp_path, settings="no_such_setting: 1")
    with pytest.raises(RuntimeError, match="no_such_setting"):
        await server.start()
    assert not server.running


async def test_nothing_is_left_to_find() -> None:
    assert not list(Path.home().iterdir())
    assert "VAULT_TOKEN" not in os.environ
