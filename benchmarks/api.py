"""Requests to one API process: submissions beside what Vault and NATS alone take, and answers on kept connections."""

import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp
import msgspec
from tests.support.stack import program

from benchmarks.bare import IMAGE
from benchmarks.bare_calls import lookups, publishes
from benchmarks.measure import Goal, Measured, Row, Work, alone, compared, cpu_of, timed
from benchmarks.stack import Stack, stack
from stint.process.waiting import for_each

CLIENTS = 8
CALLS = 400
"""Requests of one measurement, by all clients together."""
SERVERS = ("openbao-1", "nats-1", "projector-1")


async def rows(times: int) -> Sequence[Row]:
    """The API without runners, so that nothing else works."""
    async with stack(runners=0) as stint:
        found = await _connections(stint, times)
        found += await _submissions(stint, times)
        return found


async def _connections(stint: Stack, times: int) -> list[Row]:
    url = f"{stint.env['STINT_URL']}/healthz"

    async def kept() -> None:
        await stint.call("GET", "/healthz")

    async def new() -> None:
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            await answer.read()

    await kept()
    ours = [await timed(kept) for _ in range(times * 20)]
    theirs = [await timed(new) for _ in range(times * 20)]
    beside, goal = "healthz, new connection", Goal(1, unit="ms")
    return [compared("an answer on a kept connection", "ms", ours, beside, theirs, goal)]


async def _submissions(stint: Stack, times: int) -> list[Row]:
    encrypted = await stint.vault(f"transit/encrypt/{stint.env['STINT_ROLE']}", {"plaintext": "e30="})
    sealed = encrypted["data"]["ciphertext"]
    plain = {"container_image": IMAGE, "run": ["true"]}
    number = iter(range(10**9))

    def post(job: Mapping[str, object]) -> Work:
        async def one() -> None:
            count = next(number)
            await stint.call("POST", "/v1/api/job", {"qname": f"q-{count % 50}", "wrap_secret_id": f"t{count}", **job})

        return one

    async with lookups(stint.env) as lookup, aiohttp.ClientSession() as http, _bare() as bare:
        single = [await timed(post(plain)) for _ in range(times * 20)]
        found = [alone("POST, plain, one client", "ms", single, Goal(5, unit="ms"))]
        for name, job, rate, ms in (("plain", plain, 600, 1.2), ("sealed", {"payload": sealed}, 1000, 0.8)):
            ours, theirs = [], []
            spent: dict[str, list[float]] = {"api-1": [], "bare": [], "servers": []}
            pids = {"api-1": [stint.pid("api-1")], "bare": [bare.pid], "servers": [stint.pid(p) for p in SERVERS]}
            for _ in range(times):
                before = {part: cpu_of(*pids[part]) for part in spent}
                ours.append(await _rate(post(job)))
                await _rate(bare.submit(http, job))
                for part, values in spent.items():
                    values.append((cpu_of(*pids[part]) - before[part]) / CALLS)
                theirs.append(await _rate(lookup))
            title, goal = f"POST, {name}, {CLIENTS} clients", Goal(rate, unit="/s", at_least=True)
            cpu_title, beside = f"API's CPU, a {name} POST", "Starlette that only parses it"
            found += [
                compared(title, "/s", ours, "Vault lookup-self", theirs, goal),
                compared(cpu_title, "ms", spent["api-1"], beside, spent["bare"], Goal(ms, unit="ms")),
                alone(f"CPU of Vault, NATS and projector, a {name} POST", "ms", spent["servers"]),
            ]
    found.append(await _publish(stint, times))
    return found


class _Bare(NamedTuple):
    """A running `benchmarks.bare_api`."""

    pid: int
    port: int

    def submit(self, http: aiohttp.ClientSession, job: Mapping[str, object]) -> Work:
        """Submits a job to it."""
        body = msgspec.json.encode({"qname": "q-1", "wrap_secret_id": "t1", **job})

        async def one() -> None:
            async with http.post(f"http://127.0.0.1:{self.port}/v1/api/job", data=body) as answer:
                await answer.read()

        return one


@asynccontextmanager
async def _bare() -> AsyncIterator[_Bare]:
    async with program(sys.executable, "-m", "benchmarks.bare_api", stdout=PIPE) as process:
        line = await process.stdout.readline()  # type: ignore[union-attr] # it is a pipe
        yield _Bare(process.pid, int(line))


async def _publish(stint: Stack, times: int) -> Row:
    """What NATS alone takes for a message that is acknowledged."""
    async with publishes(stint.env) as call:
        rates = [await _rate(call) for _ in range(times)]
    return Row(f"awaited publish to a stream, {CLIENTS} clients", Measured("NATS alone", "/s", rates))


async def _rate(call: Work) -> float:
    """Calls a second, by as many clients as there are, each one after another."""
    start = time.perf_counter()
    await for_each(range(CALLS), lambda _number: call(), at_once=CLIENTS)
    return CALLS / (time.perf_counter() - start)
