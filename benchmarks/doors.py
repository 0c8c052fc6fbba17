"""What accounts and Vault tokens cost a publisher, and how soon a right that is taken away is gone at both doors.

Run it alone: `python -m benchmarks.doors`. Each figure is a median of one run on one machine: take the ratios.
"""

import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import typer
from nats.aio.client import Client
from tests.support.accounts import Accounts, Guarded, connected, nats_auth, token_for, write_policy
from tests.support.servers import BaoProcess, NatsProcess, OpenBao, running
from tests.support.vault_bench import set_up
from tests.support.waiting import until, until_true

from benchmarks.stack import Stack, stack
from stint.core.names.ids import queue_token
from stint.core.names.subjects import payload_subject
from stint.jetstream import Access, declare
from stint.process.waiting import for_each
from stint.vault import queue_path
from stint.vault.setup import client_token

PUBLISHES: Final = 2000
AT_ONCE: Final = 16
CONNECTS: Final = 50
OK: Final = HTTPStatus.OK
ROUNDS: Final = 9
"""In which all kinds of access take turns, so that what else the machine does meets them all."""
BODY: Final = b"x" * 1000
QNAME: Final = "own"


async def main() -> None:
    """Print both tables."""
    found: dict[str, list[tuple[float, float]]] = {}
    async with AsyncExitStack() as resources:
        accesses = await _accesses(resources)
        for _ in range(ROUNDS):
            for name, access in accesses.items():
                found.setdefault(name, []).append((await _connect_ms(access), await _publishes(access)))
    for name, figures in found.items():
        connects, rates = zip(*figures, strict=True)
        typer.echo(f"{name}: connect {statistics.median(connects):.1f} ms, {statistics.median(rates):.0f} acked/s")
    async with stack(runners=0) as stint:
        for name, seconds in (await _removals(stint)).items():
            typer.echo(f"{name}: {seconds:.1f} s")


async def _accesses(resources: AsyncExitStack) -> Mapping[str, Access]:
    """A server without accounts, and one with accounts for a key and a token."""
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="stint-doors-")))
    accounts = Accounts(folder / "keys", {"team": [QNAME]}, auth=True)
    plain, server = NatsProcess(folder / "plain"), Guarded(folder / "nats", accounts=accounts)
    bao = BaoProcess(folder / "bao")
    for process in (plain, server, bao):
        await resources.enter_async_context(running(process))
    await set_up(bao)
    unlimited = {"STINT_NATS_AUTH_RATE": "1e6", "STINT_NATS_AUTH_LOGINS": "10000"}
    await resources.enter_async_context(nats_auth(server, bao, folder / "auth", **unlimited))
    async with connected(Access(url=plain.url), prefix="$JS.API") as anybody:
        await declare(anybody)
    async with server.connected("projector") as projector:
        await declare(projector)
    token = await token_for(bao, {QNAME: ["create", "read"]})
    return {
        "no accounts": Access(url=plain.url),
        "accounts, key": server.access("team"),
        "accounts, Vault token": Access(url=server.url, user=QNAME, password=token),
    }


@asynccontextmanager
async def _client(access: Access) -> AsyncIterator[Client]:
    client = access.client()
    await client.connect(access.servers, allow_reconnect=False, **access.options())
    try:
        yield client
    finally:
        await client.close()


async def _connect_ms(access: Access) -> float:
    times = []
    for _ in range(CONNECTS):
        begun = time.perf_counter()
        async with _client(access):
            times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


async def _publishes(access: Access) -> float:
    job, queue = secrets.token_hex(12), queue_token(QNAME)
    async with connected(access) as broker:

        async def publish(number: int) -> None:
            answer = await broker.publish(payload_subject(queue, job, number), BODY)
            if "error" in answer:
                raise RuntimeError(str(answer))

        begun = time.perf_counter()
        await for_each(range(PUBLISHES), publish, at_once=AT_ONCE)
        return PUBLISHES / (time.perf_counter() - begun)


async def _removals(stint: Stack) -> Mapping[str, float]:
    """Seconds from the removal of a policy until each door is shut, with the default settings."""
    vault = OpenBao(stint.env["VAULT_ADDR"], stint.env["VAULT_TOKEN"])
    found = {}
    for name, shut in (
        ("the API, a request", _request_refused),
        ("the API, a live stream", _stream_ended),
        ("NATS, a connection", _connection_closed),
    ):
        policy = secrets.token_hex(8)
        rules = {queue_path(QNAME): {"capabilities": ["create", "read"]}}
        await write_policy(vault, policy, rules)
        policies: Sequence[str] = ("stint-sealer", "stint-publisher", policy)
        token = await client_token(vault.address, vault.root_token, policies=policies)
        found[name] = await shut(stint, vault, policy, token)
    return found


async def _request_refused(stint: Stack, vault: OpenBao, policy: str, token: str) -> float:
    job_id = await _job(stint)
    url = f"{stint.env['STINT_URL']}/v1/api/job/{job_id}"

    async def read() -> int:
        async with stint.http.get(url, headers={"X-Auth-Token": token}) as answer:
            return answer.status

    if await read() != OK:
        raise RuntimeError("The token may not read.")
    await write_policy(vault, policy, {})
    begun = time.perf_counter()
    await until(read, lambda status: status != OK)
    return time.perf_counter() - begun


async def _stream_ended(stint: Stack, vault: OpenBao, policy: str, token: str) -> float:
    url = f"{stint.env['STINT_URL']}/v1/api/job/{await _job(stint)}/events"
    async with stint.http.get(url, headers={"X-Auth-Token": token}) as answer:
        await answer.content.readline()
        await write_policy(vault, policy, {})
        begun = time.perf_counter()
        async for line in answer.content:
            if line.startswith(b"event: refused"):
                break
        return time.perf_counter() - begun


async def _connection_closed(stint: Stack, vault: OpenBao, policy: str, token: str) -> float:
    async with _client(Access(url=stint.env["NATS_URL"], user=QNAME, password=token)) as client:
        await write_policy(vault, policy, {})
        begun = time.perf_counter()
        await until_true(lambda: client.is_closed, seconds=120)
        return time.perf_counter() - begun


async def _job(stint: Stack) -> str:
    """A job that waits."""
    (ticket,) = await stint.tickets(1)
    return await stint.submit(ticket, queue=QNAME)


if __name__ == "__main__":
    asyncio.run(main())
