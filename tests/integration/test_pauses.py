"""How pauses are stored, what they survive, and what the API says of queues. No job runs."""

import asyncio
import secrets

import httpx
import pytest

from stint.core.names.ids import queue_token
from stint.core.names.streams import PAUSES_BUCKET
from stint.core.names.subjects import kv_subject
from stint.core.pause import UNREADABLE, Pause
from stint.core.view import NEVER, view
from stint.jetstream import Broker, JetStreamPauses, JetStreamWorkQueues
from stint.jetstream.wire.protocol import NoAnswerError
from stint.ports import Outcome
from tests.support.api_bench import Bench
from tests.support.brokers import started as connection
from tests.support.events import ended, held, started
from tests.support.relay import Relay
from tests.support.views import job_view
from tests.support.waiting import until

PAUSE = Pause(who="anna", at="2026-01-02T03:04:05Z", reason="The database is being moved.")


def queue() -> str:
    return f"queue-{secrets.token_hex(4)}"


async def pause(bench: Bench, qname: str, **body: object) -> httpx.Response:
    return await bench.http.post(f"/v1/api/queue/{qname}/pause", json=body)


async def append(bench: Bench, job_id: str, *facts: object) -> None:
    for fact in facts:
        token = (await bench.load(job_id)).token
        assert await bench.parts.log.append(token, job_id, fact) is Outcome.WON  # type: ignore[arg-type] # events


async def test_the_end_of_a_pause_is_a_hint_that_the_next_job_was_given_back(bench: Bench) -> None:
    queues, pauses, token = JetStreamWorkQueues(bench.broker, lease=30), JetStreamPauses(bench.broker), queue_token("a")
    async with queues.hints() as hints, asyncio.timeout(30):
        await bench.broker.client.flush()
        await pauses.put(token, PAUSE)
        await pauses.remove(token)
        heard = [await anext(hints), await anext(hints)]
    assert [(hint.token, hint.returned) for hint in heard] == [(token, False), (token, True)]


class Held(Relay):
    """A line to NATS on which all that is sent waits, from a change of a pause on, until `go`."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.go = asyncio.Event()

    async def sent(self, data: bytes) -> bytes:
        if b"PUB $KV." in data:
            await self.go.wait()
        return data


@pytest.mark.parametrize("late", ["pause", "resume"])
async def test_what_was_not_answered_does_not_undo_what_was_answered_later(
    broker: Broker, nats_url: str, late: str
) -> None:
    """An API is cut off from NATS, its caller gets a 503, and does the opposite by another API."""
    line, pauses, token = Held(int(nats_url.rpartition(":")[2])), JetStreamPauses(broker), queue_token(queue())
    async with line.listening() as port, connection(f"nats://127.0.0.1:{port}") as cut_off:
        await cut_off.wait_connected()
        cut_off.timeout, slow = 0.5, JetStreamPauses(cut_off)
        if late == "resume":
            await pauses.put(token, PAUSE)
        with pytest.raises(NoAnswerError):
            await (slow.put(token, PAUSE) if late == "pause" else slow.remove(token))
        await (pauses.remove(token) if late == "pause" else pauses.put(token, PAUSE))
        line.go.set()
        await cut_off.client.flush()
        assert await pauses.find(token) == (None if late == "pause" else PAUSE)


async def test_what_cannot_be_read_is_a_pause(bench: Bench) -> None:
    qname = queue()
    await bench.broker.publish(kv_subject(PAUSES_BUCKET, queue_token(qname)), b"\xff{")
    shown = (await bench.http.get(f"/v1/api/queue/{qname}")).json()
    assert shown["paused"] == {"who": "", "at": NEVER, "reason": UNREADABLE}
    assert (await bench.http.post(f"/v1/api/queue/{qname}/resume")).json()["paused"] is None


async def test_a_claim_that_was_decided_before_the_pause_is_refused_after_it(bench: Bench) -> None:
    """The runner has loaded the job, has found no pause, and is slow from then on."""
    qname = queue()
    first, second = await bench.submitted(qname=qname), await bench.submitted(qname=qname)
    for reason in ("once", "and again: the same job is still the next one"):
        seen = await bench.load(first)
        assert await bench.parts.pauses.find(seen.token) is None
        assert (await pause(bench, qname, reason=reason)).status_code == 200
        claim = await bench.parts.log.append(seen.token, first, started(), after=seen.sequence)
        assert claim is Outcome.LOST
        assert (await bench.http.post(f"/v1/api/queue/{qname}/resume")).status_code == 200
    await append(bench, first, started())
    running = await bench.load(first)
    assert (await pause(bench, qname)).status_code == 200
    assert await bench.load(first) == running, "a job that was claimed is left alone"
    await append(bench, first, ended())
    next_one = await bench.load(second)
    assert (await pause(bench, qname)).status_code == 200
    assert (await bench.load(second)).sequence > next_one.sequence, "barred, though the first is in WORK"


async def test_many_pauses_and_a_claim_at_once(bench: Bench) -> None:
    for _ in range(10):
        qname = queue()
        job = await bench.load(await bench.submitted(qname=qname))
        pauses = asyncio.gather(*(pause(bench, qname) for _ in range(3)))
        claim = await bench.parts.log.append(job.token, job.job_id, started(), after=job.sequence)
        answers = await pauses
        assert {answer.status_code for answer in answers} == {200}
        shown = (await bench.http.get(f"/v1/api/queue/{qname}")).json()
        assert shown["paused"]
        assert (await bench.load(job.job_id)).state == ("running" if claim is Outcome.WON else "queued")


async def test_a_held_queue_says_since_when_and_what_waits(bench: Bench) -> None:
    qname = queue()
    first, *others = [await bench.submitted(qname=qname) for _ in range(3)]
    await append(bench, first, started("runner-of-old"), held("runner-of-old"))
    for job_id in (first, *others):
        await bench.put_view(view(await bench.load(job_id)))
    shown = (await until(lambda: bench.http.get(f"/v1/api/queue/{qname}"), lambda now: now.json()["depth"] == 2)).json()
    held_job = view(await bench.load(first))
    assert (shown["held_since"], shown["last_contact"]) == (held_job.held_since, held_job.started)
    jobs = (await bench.http.get("/v1/api/job", params={"qname": qname})).json()["data"]
    assert [(job["position"], job["waits_for"]) for job in jobs] == [(2, "held"), (1, "held"), (0, "")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"{}", 200),
        (b'{"Reason": "why", "other": 1}', 200),
        (b'{"reason": 1}', 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b'{"reason": "%s"}' % (b"x" * 1001), 400),
        (b'{"reason": "\\ud800"}', 400),
    ],
)
async def test_a_reason_is_short_text(bench: Bench, body: bytes, status: int) -> None:
    qname = queue()
    answer = await bench.http.post(f"/v1/api/queue/{qname}/pause", content=body)
    assert answer.status_code == status, answer.text
    assert (await bench.parts.pauses.find(queue_token(qname)) is not None) is (status == 200)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("with space", "with%20space"),
        ("a/b", "a/b"),
        ("a/pause", "a/pause"),
        ("\u00fcml\u00e4ut", "%C3%9CML%C3%84UT"),
        ("", "="),
        ("a/", "="),
        ("=odd", "="),
    ],
)
async def test_any_name_can_be_in_a_path(bench: Bench, name: str, path: str) -> None:
    path = path if path != "=" else f"={queue_token(name)}"
    shown = await bench.http.post(f"/v1/api/queue/{path}/pause")
    assert (shown.status_code, shown.json()["qname"]) == (200, name)
    assert (await bench.http.get(f"/v1/api/queue/{path}")).json()["paused"] is not None
    assert (await bench.http.post(f"/v1/api/queue/{path}/resume")).json()["paused"] is None


async def test_a_token_that_is_none_is_a_wrong_name(bench: Bench) -> None:
    assert (await bench.http.get("/v1/api/queue/=mf")).status_code == 400


async def test_policies_decide_who_pauses_and_who_sees(bench: Bench) -> None:
    mine, other = f"mine-{queue()}", f"other-{queue()}"
    rules = {
        "may-pause": f'path "stint/pause/{mine}" {{ capabilities = ["update"] }}',
        "may-read": f'path "stint/queue/{mine}" {{ capabilities = ["read"] }}',
        "may-all-but": 'path "stint/queue/*" { capabilities = ["create", "read", "update", "delete", "sudo"] }',
    }
    headers = {name: {"X-Auth-Token": await bench.token_with(rule)} for name, rule in rules.items()}
    for command in ("pause", "resume"):
        path = f"/v1/api/queue/{mine}/{command}"
        refused = await bench.http.post(path, headers=headers["may-all-but"])
        assert refused.status_code == 403
        assert (
            f'{command} this queue: it lacks the capability "update" on "stint/pause/{mine}"' in refused.json()["error"]
        )
        assert (await bench.http.post(path, headers=headers["may-pause"])).status_code == 200
        assert (await bench.http.post(path, headers={"X-Auth-Token": "unknown"})).status_code == 403
    for qname in (mine, other):
        assert (await pause(bench, qname)).status_code == 200
    assert (await bench.http.get(f"/v1/api/queue/{mine}", headers=headers["may-pause"])).status_code == 403
    assert (await bench.http.get(f"/v1/api/queue/{other}", headers=headers["may-read"])).status_code == 403
    seen = (await bench.http.get("/v1/api/queue", headers=headers["may-read"])).json()
    assert [(found["qname"], found["paused"]["who"]) for found in seen["data"]] == [(mine, "token-stint-client")]


async def test_who_may_only_pause_a_queue_is_not_told_of_its_jobs(bench: Bench) -> None:
    qname = queue()
    await bench.put_view(job_view(1, qname=qname, status="queued"))
    waiting = await until(lambda: bench.http.get(f"/v1/api/queue/{qname}"), lambda answer: answer.json()["depth"] == 1)
    token = await bench.token_with(f'path "stint/pause/{qname}" {{ capabilities = ["update"] }}')
    for command, who in (("pause", "token-"), ("resume", None)):
        path = f"/v1/api/queue/{qname}/{command}"
        told = (await bench.http.post(path, headers={"X-Auth-Token": token})).json()
        assert told.keys() == waiting.json().keys()
        assert (told["depth"], told["oldest_wait"], told["waiting"]) == (0, 0, [])
        assert told["paused"]["who"].startswith(who) if who else told["paused"] is None
        assert (await bench.http.post(path)).json()["waiting"], "who may read it is told"
