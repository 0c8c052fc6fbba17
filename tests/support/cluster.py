"""Three NATS servers that hold each stream together. A test may kill, stop and restart each of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stint.core.errors import StintError
from stint.jetstream import Broker
from tests.support.brokers import declare_anew, started
from tests.support.servers import NatsProcess, servers_of_cluster
from tests.support.waiting import until

NAMES = ("one", "two", "three")
SIZE = len(NAMES)
ELECTED = 60.0
"""Seconds that a cluster may take to agree on a leader; a loaded machine needs several rounds."""


@dataclass(frozen=True)
class Cluster:
    """Servers by name."""

    servers: dict[str, NatsProcess]

    @property
    def url(self) -> str:
        """Of all servers, for `Broker`."""
        return ",".join(server.url for server in self.servers.values())

    def connected(self, broker: Broker) -> str:
        """The name of the server that has this connection."""
        url = broker.client.connected_url
        return next(name for name, server in self.servers.items() if url and url.port == server.port)

    def others(self, name: str) -> list[str]:
        return [other for other in self.servers if other != name]

    async def leader(self, broker: Broker, stream: str) -> str:
        """The name of the server that leads the stream, once there is one."""
        found = await until(lambda: _info(broker, stream), _leader, seconds=ELECTED)
        return str(_leader(found))

    async def whole(self, broker: Broker, stream: str, *, through: int = 0) -> None:
        """Return once every replica of the stream has all that its leader has.

        A server that has just resumed believes that it leads, and of the others that they are as it knew them. Who
        wants an answer of its successor names a sequence that was acknowledged by that one.
        """
        await until(lambda: _info(broker, stream), partial(_is_whole, through), seconds=ELECTED)


async def _info(broker: Broker, stream: str) -> dict[str, Any]:
    """A STREAM.INFO answer, empty while nobody gives one."""
    try:
        await broker.wait_connected()
        return await broker.api(f"STREAM.INFO.{stream}")
    except StintError:
        return {}


def _leader(info: Mapping[str, Any]) -> str | None:
    return _group(info).get("leader")


def _is_whole(through: int, info: Mapping[str, Any]) -> bool:
    replicas = _group(info).get("replicas") or []
    whole = [one for one in replicas if one.get("current") and not one.get("lag") and not one.get("offline")]
    return len(whole) == len(replicas) == SIZE - 1 and info["state"]["last_seq"] >= through


def _group(info: Mapping[str, Any]) -> Mapping[str, Any]:
    return info.get("cluster") or {}


@contextlib.asynccontextmanager
async def clustered(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster for the duration of the block. Its streams are not declared yet."""
    servers = dict(zip(NAMES, servers_of_cluster(folder, NAMES), strict=True))
    try:
        await asyncio.gather(*(server.start() for server in servers.values()))
        yield Cluster(servers)
    finally:
        await asyncio.gather(*(server.kill() for server in servers.values()))


@contextlib.asynccontextmanager
async def connected_to(cluster: Cluster, *first: str) -> AsyncIterator[Broker]:
    """A connection to the cluster, or to these servers of it alone, with all streams declared on three servers."""
    url = ",".join(cluster.servers[name].url for name in first) if first else cluster.url
    async with started(url) as broker:
        await broker.wait_connected()
        await declare_anew(broker, SIZE)
        yield broker
