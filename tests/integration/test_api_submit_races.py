import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from stint.core.errors import BrokerUnavailableError
from stint.core.events import AnyEvent
from stint.core.subjects import PAYLOADS, queue_token
from stint.jetstream import JetStreamEventLog
from stint.ports import EventLog, Outcome
from stint_api.app import create_app
from tests.support import events
from tests.support.api_bench import Bench, api
from tests.support.containers import OpenBao
from tests.support.servers import NatsProcess
from tests.support.submissions import Client, in_cubbyhole, messages, stored, submitted

PLAIN: dict[str, Any] = {"payload": "", "container_image": "busybox", "run": ["true"]}


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao.address, openbao.root_token) as bench:
        await bench.parts.index.ready.wait()
        yield bench


class MeetingLog(JetStreamEventLog):
    """The real log, whose appends wait for each other: both have seen that nothing is there."""

    meeting: asyncio.Barrier

    async def append(self, token: str, job_id: str, *facts: AnyEvent, after: int | None = None) -> Outcome:
        await self.meeting.wait()
        return await super().append(token, job_id, *facts, after=after)


class FaultyLog(JetStreamEventLog):
    """The real log, until an append; `arrives` says whether that one is stored before the answer is lost."""

    arrives = False

    async def append(self, token: str, job_id: str, *facts: AnyEvent, after: int | None = None) -> Outcome:
        if self.arrives:
            await super().append(token, job_id, *facts, after=after)
        return Outcome.UNKNOWN


class ClosedLog(JetStreamEventLog):
    """The real log, which takes nothing and says so."""

    async def append(self, *_arguments: Any, **_options: Any) -> Outcome:
        raise BrokerUnavailableError


class LateLog(JetStreamEventLog):
    """The real log; before an append, the job is there already, and over."""

    others: Iterable[AnyEvent] = ()

    async def append(self, token: str, job_id: str, *facts: AnyEvent, after: int | None = None) -> Outcome:
        others, self.others = self.others, ()
        for other in others:
            assert await super().append(token, job_id, other) is Outcome.WON
        return await super().append(token, job_id, *facts, after=after)


@asynccontextmanager
async def another(bench: Bench, log: EventLog) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another API on the same servers, with that log."""
    transport = httpx.ASGITransport(create_app(replace(bench.parts, log=log)))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=bench.http.headers) as http:
        yield http


@asynccontextmanager
async def two(bench: Bench) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two APIs that meet at the append."""
    log = MeetingLog(bench.broker)
    log.meeting = asyncio.Barrier(2)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(another(bench, log)) for _ in range(2)]


@pytest.mark.parametrize("fields", [{}, PLAIN])
async def test_the_same_request_at_the_same_time_is_one_job(bench: Bench, fields: dict[str, Any]) -> None:
    client = Client(bench)
    async with two(bench) as apis:
        ids = await asyncio.gather(*(client.take(http, **fields) for http in apis))
    assert len(set(ids)) == 1
    assert await client.pending() == 1
    job = await client.job(ids[0])
    await stored(bench, job)
    assert await messages(bench, PAYLOADS, f"pl.*.{ids[0]}.*") == 2  # the one that came second goes at the job's end


async def test_of_the_same_request_one_reads_the_cubbyhole_and_no_alarm_is_raised(bench: Bench) -> None:
    """OpenBao answers 500 where a token's last uses are spent at the same time: that is a 503, to be tried again."""
    client, fields = Client(bench), await in_cubbyhole(bench)

    async def take(http: httpx.AsyncClient) -> str:
        answer = await client.post(http, **fields)
        while answer.status_code == 503:
            answer = await client.post(http, **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["_id"])

    async with another(bench, bench.parts.log) as other:
        ids = await asyncio.gather(*(take(http) for http in (bench.http, other) * 3))
    assert len(set(ids)) == 1
    assert await client.pending() == 1
    await stored(bench, await client.job(ids[0]))


async def test_of_two_bodies_at_the_same_time_one_is_taken(bench: Bench) -> None:
    client = Client(bench)
    async with two(bench) as (one, other):
        answers = await asyncio.gather(client.post(one, **PLAIN), client.post(other, **PLAIN, tty=True))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert await client.pending() == 1
    job = await client.job(next(answer.json()["_id"] for answer in answers if answer.is_success))
    assert submitted(job).tty is (answers[1].status_code == 200)
    await stored(bench, job)


async def test_of_two_queues_at_the_same_time_one_is_taken(bench: Bench) -> None:
    """Facts collide in the broker only within a queue; the first one's the job is."""
    client = Client(bench)
    queues = [f"{client.qname}{number}" for number in range(2)]
    async with two(bench) as apis:
        answers = await asyncio.gather(
            *(client.post(http, **PLAIN, qname=qname) for http, qname in zip(apis, queues, strict=True))
        )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    winner = next(answer.json() for answer in answers if answer.is_success)
    job = await client.job(winner["_id"])
    assert job.token == queue_token(winner["qname"])
    await stored(bench, job)
    assert await messages(bench, PAYLOADS, f"pl.*.{job.job_id}.*") == 1
    # The other fact stands too. A runner sees whose the job is, and takes it out of the queue.
    assert [await replace(client, qname=qname).pending() for qname in queues] == [1, 1]


async def test_a_try_behind_the_jobs_end_leaves_no_payload(bench: Bench) -> None:
    client, log = Client(bench), LateLog(bench.broker)
    log.others = (events.submitted(client.qname), events.ended("failed", "killed"))
    async with another(bench, log) as late:
        answer = await client.post(late)
        assert answer.status_code == 409
    assert await messages(bench, PAYLOADS, f"pl.{queue_token(client.qname)}.>") == 0


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_lost_answer_is_found_again(bench: Bench, arrives: bool) -> None:
    client, log = Client(bench), FaultyLog(bench.broker)
    log.arrives = arrives
    async with another(bench, log) as faulty:
        first = await client.post(faulty, **PLAIN)
    assert (first.status_code, first.json()["status"]) == (503, "Service Unavailable.")
    job_id = await client.take(**PLAIN)
    assert first.json()["_id"] == job_id
    job = await client.job(job_id)
    payload, _ = await stored(bench, job)  # each try sealed it anew: this is the one of the try that counts
    assert payload.startswith(b"vault:v1:")
    assert await messages(bench, PAYLOADS, f"pl.*.{job_id}.*") == (1 if arrives else 2)
    await bench.parts.payloads.purge(job.token, job_id)
    assert await messages(bench, PAYLOADS, f"pl.*.{job_id}.*") == 0


async def test_what_was_not_taken_is_told_from_what_may_have_been(bench: Bench) -> None:
    """Only the latter has an id to look at."""
    client = Client(bench)
    async with another(bench, ClosedLog(bench.broker)) as closed:
        answer = await client.post(closed, **PLAIN)
    assert (answer.status_code, "_id" in answer.json()) == (503, False)
    assert await client.pending() == 0
