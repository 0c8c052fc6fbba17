"""A submission that is sent again, one after another or at the same time, is one job."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from stint.core.codec import encode
from stint.core.errors import BrokerUnavailableError
from stint.core.events import AnyEvent
from stint.core.job import Job
from stint.core.names.ids import queue_token
from stint.core.names.streams import PAYLOADS
from stint.jetstream import JetStreamEventLog
from stint.ports import Outcome
from stint_api.auth import Identity
from stint_api.submit import submitter
from stint_api.submit.submitter import keyed_id
from tests.support import events
from tests.support.answers import json_of
from tests.support.api_bench import SEALED, Bench
from tests.support.events import utc_now
from tests.support.submissions import Client, UnsureLog, in_cubbyhole, messages, stored
from tests.support.waiting import until_true

PLAIN: dict[str, Any] = {"payload": "", "container_image": "busybox", "run": ["true"]}


async def test_a_caller_is_an_identity_or_else_a_token(bench: Bench) -> None:
    client, role = Client(bench), await bench.role_with("stint-client")

    async def job_of(token: str) -> str:
        async with bench.client({"X-Auth-Token": token}) as http:
            job_id = await client.take(http)
            assert await client.take(http) == job_id
            return job_id

    one, two = [await job_of(await bench.logged_in(role)) for _ in range(2)]
    assert one == two
    body = {"policies": ["stint-client"], "ttl": "5m", "type": "batch"}
    batch = await bench.admin(lambda c: c.adapter.post("/v1/auth/token/create", json=body))
    another = await bench.limited_token(0, ("stint-client",))
    others = [await job_of(token) for token in (bench.token, bench.root, another, batch["auth"]["client_token"])]
    assert len({one, *others}) == 5


@pytest.mark.parametrize("end", ["killed", "ended", "deleted", "both"])
async def test_a_repeat_never_revives_a_job(bench: Bench, end: str) -> None:
    client = Client(bench)
    job_id = await client.take()
    job, gone = await client.job(job_id), end in {"deleted", "both"}
    if end == "ended":
        for event in (events.started(), events.ended("failed", "exit_code", 3)):
            assert await bench.parts.log.append(job.token, job_id, event) is Outcome.WON
    if end in {"killed", "both"}:
        assert (await bench.http.post(f"/v1/api/job/kill/{job_id}")).status_code == 200
    if gone:
        assert (await bench.http.delete(f"/v1/api/job/{job_id}")).status_code == 200
    before = await client.job(job_id)
    if gone:
        await is_gone(client, job_id, "was deleted")
    else:
        assert await client.take() == job_id
    assert (await client.post(tty=True)).status_code == (410 if gone else 409)
    assert await client.job(job_id) == before
    assert await messages(bench, PAYLOADS, f"pl.*.{job_id}.*") == (0 if gone else 1)


async def test_a_repeat_of_a_job_that_is_no_longer_kept_is_told_so(bench: Bench) -> None:
    client = Client(bench)
    job_id = await client.take()
    assert (await bench.http.post(f"/v1/api/job/kill/{job_id}")).status_code == 200
    async with bench.another(now=lambda: utc_now() + bench.parts.retention) as http:
        assert (await http.get(f"/v1/api/job/{job_id}")).status_code == 404
        await is_gone(client, job_id, "is over, and no longer kept", http)


async def is_gone(client: Client, job_id: str, fate: str, http: httpx.AsyncClient | None = None) -> None:
    """Not 200 `queued`: there is no such job for anybody who looks."""
    answer = await client.post(http)
    sentence = f"The job of this Idempotency-Key, {job_id}, {fate}."
    assert (answer.status_code, answer.json()) == (410, {"status": "Gone.", "error": sentence, "_id": job_id})


@pytest.mark.parametrize("body", [b"no event", b"{}", encode(events.submitted("x"))])
async def test_one_who_was_there_first_is_a_conflict(bench: Bench, body: bytes) -> None:
    """Whoever may publish submissions straight to NATS can take an id, and never passes for the caller."""
    client = Client(bench)
    caller = await bench.vault.lookup_self(bench.token)
    job_id = keyed_id(Identity("", "", f"accessor {caller.accessor}"), client.key)
    await bench.broker.publish(f"ev.{job_id}.{queue_token(client.qname)}.submitted", body)
    assert (await client.post()).status_code == 409
    assert await messages(bench, PAYLOADS, f"pl.*.{job_id}.*") == 0


async def test_the_frame_keeps_caller_and_key_apart() -> None:
    pairs = [("a b", "c"), ("a", "b c"), ("a b c", ""), ("1 a", "b c"), ("", "a b c")]
    assert len({keyed_id(Identity("", "", caller), key) for caller, key in pairs}) == len(pairs)


class MeetingLog(JetStreamEventLog):
    """The real log, whose appends wait for each other: both have seen that nothing is there."""

    meeting: asyncio.Barrier

    async def append(self, *event: Any, **condition: Any) -> Outcome:
        await self.meeting.wait()
        return await super().append(*event, **condition)


class ClosedLog(JetStreamEventLog):
    """The real log, which takes nothing and says so."""

    async def append(self, *_arguments: Any, **_options: Any) -> Outcome:
        raise BrokerUnavailableError


class UnreadableLog(JetStreamEventLog):
    """The real log, which takes a job and cannot be read any more."""

    taken = False

    async def append(self, *event: Any, **condition: Any) -> Outcome:
        self.taken = True
        return await super().append(*event, **condition)

    async def load(self, job_id: str, **options: Any) -> Job | None:
        if self.taken:
            raise BrokerUnavailableError
        return await super().load(job_id, **options)


class LateLog(JetStreamEventLog):
    """The real log; before an append, the job is there already, and over."""

    others: Iterable[AnyEvent] = ()

    async def append(self, token: str, job_id: str, *facts: AnyEvent, **condition: Any) -> Outcome:
        others, self.others = self.others, ()
        for other in others:
            assert await super().append(token, job_id, other) is Outcome.WON
        return await super().append(token, job_id, *facts, **condition)


@asynccontextmanager
async def two(bench: Bench) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two APIs that meet at the append."""
    log = MeetingLog(bench.broker)
    log.meeting = asyncio.Barrier(2)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(bench.another(log=log)) for _ in range(2)]


@pytest.mark.parametrize("fields", [{}, PLAIN], ids=["sealed", "plain"])
async def test_the_same_request_at_the_same_time_is_one_job(bench: Bench, fields: dict[str, Any]) -> None:
    client = Client(bench)
    async with two(bench) as apis:
        ids = await asyncio.gather(*(client.take(http, **fields) for http in apis))
    assert len(set(ids)) == 1
    assert await client.submissions() == 1
    await stored(bench, await client.job(ids[0]))
    assert await messages(bench, PAYLOADS, f"pl.*.{ids[0]}.*") == 2  # the one that came second goes at the job's end


async def test_of_the_same_request_one_reads_the_cubbyhole_and_no_alarm_is_raised(bench: Bench) -> None:
    """OpenBao answers 500 where a token's last uses are spent at the same time: that is a 503, to be tried again."""
    client, fields = Client(bench), await in_cubbyhole(bench)

    async def take(http: httpx.AsyncClient) -> str:
        answer = await client.post(http, **fields)
        while answer.status_code == 503:
            answer = await client.post(http, **fields)
        return str(json_of(answer)["_id"])

    async with bench.another() as other:
        ids = await asyncio.gather(*(take(http) for http in (bench.http, other) * 3))
    assert len(set(ids)) == 1
    assert await client.submissions() == 1
    assert (await stored(bench, await client.job(ids[0])))[0] == SEALED.encode()


async def test_the_log_is_read_once_before_and_once_after(bench: Bench) -> None:
    """To show that a job is not there takes three round trips to NATS, and more in a cluster."""
    loads: list[str] = []

    class CountedLog(JetStreamEventLog):
        async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
            loads.append(job_id)
            return await super().load(job_id, at_least=at_least)

    async with bench.another(log=CountedLog(bench.broker)) as http:
        job_id = await Client(bench).take(http, **await in_cubbyhole(bench))
    assert loads == [job_id] * 2


async def test_a_repeat_waits_as_long_as_its_twin_may_take_to_store_what_it_read(bench: Bench) -> None:
    """It must not be told that the job is not queued, and be queued after that."""
    client, fields, log = Client(bench), await in_cubbyhole(bench), MeetingLog(bench.broker)
    log.meeting = asyncio.Barrier(2)
    async with bench.another(log=log) as slow, bench.another() as other:
        first = asyncio.create_task(client.post(slow, **fields))
        await until_true(lambda: log.meeting.n_waiting == 1)
        repeats = [asyncio.create_task(client.post(http, **fields)) for http in (slow, other)]
        assert not (await asyncio.wait(repeats, timeout=3))[0]
        await log.meeting.wait()
        answers = [await answer for answer in (first, *repeats)]
    assert len({(answer.status_code, answer.text) for answer in answers}) == 1, [answer.text for answer in answers]
    assert await client.submissions() == 1


async def test_a_repeat_of_what_is_stored_slowly_is_no_alarm(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitter, "STORING", 0.1)
    client, fields, log = Client(bench), await in_cubbyhole(bench), MeetingLog(bench.broker)
    log.meeting = asyncio.Barrier(2)
    async with bench.another(log=log, patience=0.1) as slow:
        first = asyncio.create_task(client.post(slow, **fields))
        await until_true(lambda: log.meeting.n_waiting == 1)
        repeat = await client.post(slow, **fields)
        await log.meeting.wait()
        taken = await first
        again = await client.post(slow, **fields)
    assert [answer.status_code for answer in (repeat, taken, again)] == [503, 200, 200], repeat.text
    assert {answer.json()["_id"] for answer in (repeat, taken, again)} == {taken.json()["_id"]}


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
    assert [await replace(client, qname=qname).submissions() for qname in queues] == [1, 1]


async def test_a_try_behind_the_jobs_end_leaves_no_payload(bench: Bench) -> None:
    client, log = Client(bench), LateLog(bench.broker)
    log.others = (events.submitted(client.qname), events.ended("failed", "killed"))
    async with bench.another(log=log) as late:
        assert (await client.post(late)).status_code == 409
    assert await messages(bench, PAYLOADS, f"pl.{queue_token(client.qname)}.>") == 0


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_lost_answer_is_found_again(bench: Bench, arrives: bool) -> None:
    client = Client(bench)
    async with bench.another(log=UnsureLog(bench.broker, arrives=arrives)) as faulty:
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
    """Only the latter has an id to look at, also if it was taken and cannot be read."""
    client = Client(bench)
    async with bench.another(log=ClosedLog(bench.broker)) as closed:
        answer = await client.post(closed, **PLAIN)
    assert (answer.status_code, "_id" in answer.json()) == (503, False)
    assert await client.submissions() == 0
    async with bench.another(log=UnreadableLog(bench.broker)) as unreadable:
        answer = await client.post(unreadable, **PLAIN)
    assert (answer.status_code, answer.json()["_id"]) == (503, await client.take(**PLAIN))
