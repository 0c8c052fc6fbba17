"""The connection to an engine on the network."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from stint_runner.engine.docker_client import KEEP_ALIVE, UNHEARD, DockerClient


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
