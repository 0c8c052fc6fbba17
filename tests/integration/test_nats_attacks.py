"""What each user of NATS must not be able to do, tried with its real key against a whole stack.

In another team's queue a job runs meanwhile, which none of it may disturb: the last test looks.
"""

import asyncio
import io
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import product
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NoAnswerError

import stint.client
from stint.core.codec import encode
from stint.core.names.headers import LABEL_ACK
from stint.core.names.ids import FLEET_TOKEN, queue_token
from stint.core.names.streams import (
    EVENTS,
    JOBS_BUCKET,
    KEPT,
    LOGS,
    PAUSES_BUCKET,
    PAYLOADS,
    PROJECTOR_DURABLE,
    RUNNERS_BUCKET,
    SESSIONS_BUCKET,
    SIGNERS_BUCKET,
    WORK,
    api_signer_key,
    consumer_name,
    kv_stream,
    subscription,
)
from stint.core.names.subjects import (
    HINTS,
    JS_PREFIX,
    hint_subject,
    kept_subject,
    kv_subject,
    log_subject,
    payload_subject,
    removal_subject,
)
from stint.core.output.chain import Chunk
from stint.jetstream import Broker, JetStreamEventLog, JetStreamOutput, make_subscription
from stint.jetstream.consuming.consumers import create_consumer
from stint.jetstream.wire.protocol import NANOSECONDS
from stint.natsauth.requests import STREAMS
from tests.api.client import in_steps
from tests.support import events
from tests.support.accounts import Accounts, logged_in, token_for
from tests.support.attacked import Attacked, attacked
from tests.support.runner_bench import Bench
from tests.support.waiting import PATIENCE, until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]  # for a whole stack to start on a busy machine

OWN, OTHER, MATCHED = queue_token("own"), queue_token("other"), queue_token("net-a")
TOLD = {"eve": OWN, "greedy": OWN, "told": OTHER}
"""The subscribers, each with its queue."""
VICTIM, LASTING = "a" * 24, "c" * 24
"""The job of another team, which runs, and one in the queue that the pattern matches: its pool may touch that."""
JOB = "b" * 24
PUBLISHER, SUBSCRIBER, SERVICES = "mallory", "eve", ("api", "runner", "projector")
POOLS = {"subnet": OWN, "nets": MATCHED}
"""Pools of a named queue and of a pattern, each with a queue of its own."""
BY_TOKEN = "mallory with a Vault token"
"""The same rights, by another credential: whatever the one cannot do, the other must not."""
PUBLISHERS = (PUBLISHER, BY_TOKEN)
EVERYBODY = (*PUBLISHERS, SUBSCRIBER, *POOLS, *SERVICES)
PRESENCE = kv_stream(RUNNERS_BUCKET)
NAMED, ANNOUNCED = "runners/runner-2", kv_subject(RUNNERS_BUCKET, "runner-2")
"""A runner with a key of its own, and what it may write of itself."""


class Attacker:
    """A client with a user's key, which does as it likes."""

    def __init__(self, client: Client, denied: "asyncio.Queue[str]") -> None:
        self.client = client
        self.denied = denied

    async def publish(self, subject: str, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> None:
        """Publish, and return once the server has read it."""
        await self.client.publish(subject, body, headers=dict(headers or {}))
        await self.client.flush()

    async def refused(self, subject: str, body: bytes = b"{}") -> None:
        """Publish, and wait for the denial of just that."""
        await self.publish(subject, body)
        await self._denial(subject)

    async def deaf(self, subject: str) -> None:
        """Subscribe, and wait for the denial of just that."""
        await self.client.subscribe(subject)
        await self._denial(subject)

    async def unanswered(self, call: str, request: Mapping[str, Any] | None) -> None:
        """Ask, under the name that JetStream has for this user and under its own."""
        assert await self.ask(call, request) is None, (call, request)
        assert not await self.ask(call, request, prefix="$JS.API"), (call, request)

    async def _denial(self, subject: str) -> None:
        async with asyncio.timeout(PATIENCE):
            said = (await self.denied.get()).lower()
        assert "permissions violation" in said, said
        assert f'"{subject.lower()}"' in said, said

    async def ask(self, call: str, request: Mapping[str, Any] | None = None, prefix: str = JS_PREFIX) -> bytes | None:
        """The answer of the JetStream API, None if there is none."""
        body = json.dumps(request).encode() if request else b""
        asking = asyncio.create_task(self.client.request(f"{prefix}.{call}", body, timeout=5))
        denial = asyncio.create_task(self.denied.get())
        try:
            await asyncio.wait({asking, denial}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                assert f'"{prefix}.{call}"'.lower() in (said := denial.result().lower()), said
            return (await asking).data if asking.done() else None
        except (NoRespondersError, NoAnswerError):
            return None
        finally:
            asking.cancel()
            denial.cancel()
            await asyncio.gather(asking, denial, return_exceptions=True)


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory, busybox: str) -> AsyncIterator[Attacked]:
    assert busybox
    async with attacked(tmp_path_factory.mktemp("attacked")) as server:
        yield server


@pytest.fixture(scope="module")
async def accounts(server: Attacked) -> Accounts:
    token = await token_for(server.openbao, {"own": ["create", "read", "update", "delete", "list"]})
    accounts = Accounts(
        server.keys,
        {PUBLISHER: ["own"], "victim": ["other"]},
        [*TOLD],
        tokens={BY_TOKEN: ("own", token)},
        runners=[NAMED],
        pools={"subnet": "own", "nets": "net-*"},
    )
    await server.configure(accounts)
    return accounts


@pytest.fixture(scope="module", autouse=True)
async def held(accounts: Accounts, server: Attacked) -> str:
    """The ack subject of the victim's delivery, which the runner holds. The victim has written its first line."""
    async with accounts.connected(server.url, "operator") as operator:
        await operator.publish(kept_subject(OWN, JOB, "0" * 64, 0), b"sealed")
        for name, token in TOLD.items():
            await make_subscription(operator, EVENTS, subscription(name), [f"ev.*.{token}.ended"])
            await make_subscription(operator, LOGS, subscription(name), [log_subject(token, "*")])
        own = Bench(operator, server.openbao, "busybox", {}, server.stack.data_dir)
        await own.submit("sleep 600", queue="net-a", job_id=LASTING)
    async with accounts.connected(server.url, "victim") as victim:
        bench = Bench(victim, server.openbao, "busybox", {}, server.stack.data_dir)
        await bench.submit(in_steps("echo before", "echo after"), queue="other", job_id=VICTIM)
    await server.stack.writes(VICTIM)
    (container,) = await bench.containers(VICTIM)
    return container.labels[LABEL_ACK]


Attacking = Callable[[str], AbstractAsyncContextManager[Attacker]]


@pytest.fixture
def attacking(accounts: Accounts, server: Attacked) -> Attacking:
    """Logs in as a user, for a block."""

    @asynccontextmanager
    async def attacking(user: str) -> AsyncIterator[Attacker]:
        denied: asyncio.Queue[str] = asyncio.Queue()

        async def note(error: Exception) -> None:
            denied.put_nowait(str(error))

        async with logged_in(server.url, note, **accounts.access(server.url, user).options()) as client:
            yield Attacker(client, denied)

    return attacking


async def stored(operator: Broker) -> dict[str, Any]:
    """What the streams and the consumers have."""
    found: dict[str, Any] = {}
    for stream in STREAMS:
        info = await operator.api(f"STREAM.INFO.{stream}", {"subjects_filter": ">"})
        last, subjects = info["state"]["last_seq"], dict(info["state"].get("subjects") or {})
        if stream == PRESENCE:  # the runner says every ten seconds that it is there, and another one's word expires
            last = 0
            subjects.pop(ANNOUNCED, None)
        found[stream] = info["config"], last, subjects
        listed = (await operator.api(f"CONSUMER.LIST.{stream}"))["consumers"]
        found[f"{stream} consumers"] = [
            (info["name"], info["config"], info["num_ack_pending"], info["ack_floor"]) for info in listed
        ]
    return found


async def settled(operator: Broker) -> dict[str, Any]:
    """The same, once the stack has done all that follows from what earlier tests sent."""
    await until(lambda: unfinished(operator), lambda found: not any(found.values()), seconds=3 * PATIENCE)
    seen: list[dict[str, Any]] = []

    async def again() -> bool:
        seen.append(await stored(operator))
        return len(seen) > 1 and seen[-1] == seen[-2]

    await until(again)
    return seen[-1]


async def unfinished(operator: Broker) -> dict[str, int]:
    """What runner and projector have still to do, by queue. In two queues a job runs, behind which all others wait."""
    work = await operator.api(f"STREAM.INFO.{WORK}", {"subjects_filter": ">"})
    projector = await operator.api(f"CONSUMER.INFO.{EVENTS}.{PROJECTOR_DURABLE}")
    waiting = dict(work["state"]["subjects"])
    for token in (OTHER, MATCHED):
        events = await operator.api(f"STREAM.INFO.{EVENTS}", {"subjects_filter": f"ev.*.{token}.submitted"})
        waiting[f"work.{token}"] -= len(events["state"]["subjects"])
    return {**waiting, "projector": projector["num_pending"] + projector["num_ack_pending"]}


@asynccontextmanager
async def unchanged(operator: Broker) -> AsyncIterator[None]:
    """What the streams and the consumers have is the same before the block and behind it."""
    before = await settled(operator)
    yield
    assert await stored(operator) == before


async def nothing_stored(operator: Broker, subjects: Sequence[str]) -> None:
    found = await stored(operator)
    for stream in STREAMS:
        assert not set(found[stream][2]) & set(subjects), f"{stream} took an answer"


OF_OTHERS = (
    f"ev.{JOB}.{OTHER}.submitted",
    f"ev.{VICTIM}.{OTHER}.kill_requested",
    f"ev.{JOB}.*.submitted",
    f"ev.{JOB}.>",
    payload_subject(OTHER, JOB, 0),
    kept_subject(OWN, JOB, "0" * 64, 0),
    f"work.{OTHER}",
    f"work.{OWN}",
    f"output.{OTHER}.{VICTIM}.0",
    f"output.*.{VICTIM}.0",
    "output.>",
    f"output.{OWN}.{VICTIM}",
    f"output.{OWN}.{VICTIM}.0.{OTHER}",
)
"""What belongs to other queues, and what no publisher may write for its own; the last ones would ask for output."""
OF_THE_VICTIM = (
    *(f"ev.{VICTIM}.{OTHER}.{kind}" for kind in ("started", "launched", "ended", "held", "rejected", "bar-1")),
    payload_subject(OWN, JOB, 0),
)
"""What would end, run or disturb another queue's job."""
NOT_ITS_EVENTS = {
    **dict.fromkeys(PUBLISHERS, ("started", "launched", "ended", "held", "released", "rejected", "deleted")),
    SUBSCRIBER: ("submitted", "kill_requested", "ended"),
    **dict.fromkeys(POOLS, ("submitted", "kill_requested", "deleted")),
    "api": ("started", "launched", "held", "rejected"),
    "runner": ("submitted", "kill_requested", "deleted"),
    "projector": ("submitted", "started", "deleted"),
}
WRITERS = {
    log_subject(OTHER, VICTIM): {"runner"},
    kv_subject(JOBS_BUCKET, VICTIM): {"projector"},
    kv_subject(RUNNERS_BUCKET, "runner-1"): {"runner", *POOLS},
    kv_subject(PAUSES_BUCKET, OTHER): {"api"},
    kv_subject(SESSIONS_BUCKET, VICTIM): {"api"},
    kv_subject(SIGNERS_BUCKET, f"U{'A' * 55}"): set(),
    kv_subject(SIGNERS_BUCKET, api_signer_key(f"U{'A' * 55}")): {"api"},
    f"ev.{JOB}.{OWN}.paused": {"api"},
    f"ev.{JOB}.{OWN}.resumed": {"api"},
    f"ev.{JOB}.{FLEET_TOKEN}.drain_requested": {"api"},
    f"live.{VICTIM}.{OTHER}.ended": set(),
    f"tail.{OTHER}.{VICTIM}": set(),
}
"""Who alone may write output, views, runners' presence, pauses, sessions of the page, whose a key is (none of these),
that a key is one of an API, what an operator did, and what is told live (the streams' own account alone)."""
FORGED = {
    user: (
        *(f"ev.{JOB}.{OWN}.{kind}" for kind in NOT_ITS_EVENTS[user]),
        *(subject for subject, writers in WRITERS.items() if user not in writers),
        *(OF_OTHERS if user in PUBLISHERS else OF_THE_VICTIM if user in POOLS else ()),
        *((f"hint.{OTHER}",) if user == "subnet" else ()),
        *((removal_subject(OTHER),) if user != "runner" else ()),
    )
    for user in EVERYBODY
}


@pytest.mark.parametrize(
    ("user", "subjects"), [*FORGED.items(), (NAMED, [kv_subject(RUNNERS_BUCKET, "runner-1")])], ids=[*FORGED, NAMED]
)
async def test_what_a_user_may_not_publish_is_stored_nowhere(
    attacking: Attacking, operator: Broker, user: str, subjects: Sequence[str]
) -> None:
    async with unchanged(operator), attacking(user) as attacker:
        for subject in subjects:
            await attacker.refused(subject)


async def test_a_runner_with_a_key_of_its_own_announces_itself(accounts: Accounts, server: Attacked) -> None:
    async with accounts.connected(server.url, NAMED) as broker:
        assert "error" not in await broker.publish(ANNOUNCED, b"{}")
        assert "error" not in await broker.api(f"STREAM.INFO.{WORK}")


def targets(job: str) -> list[str]:
    return [
        f"ev.{job}.{OTHER}.submitted",
        f"ev.{job}.{OTHER}.ended",
        f"work.{job}",
        log_subject(OTHER, job),
        kv_subject(JOBS_BUCKET, job),
        kv_subject(RUNNERS_BUCKET, job),
        kv_subject(SIGNERS_BUCKET, job),
        kv_subject(SIGNERS_BUCKET, api_signer_key(job)),
        payload_subject(OTHER, job, 0),
        kept_subject(OTHER, job, "0" * 64, 0),
    ]


SOURCES = {
    PUBLISHER: (publishers := [f"ev.{{}}.{OWN}.submitted", f"{JS_PREFIX}.DIRECT.GET.EVENTS.ev.{JOB}.{OWN}.ended"]),
    BY_TOKEN: publishers,
    SUBSCRIBER: [
        f"{JS_PREFIX}.CONSUMER.MSG.NEXT.{EVENTS}.{subscription(SUBSCRIBER)}",
        f"{JS_PREFIX}.CONSUMER.INFO.{LOGS}.{subscription(SUBSCRIBER)}",
        f"$JS.ACK.{EVENTS}.{subscription(SUBSCRIBER)}.1.1.1.1.1",
    ],
    "api": [f"pl.{OWN}.{{}}.0", f"{JS_PREFIX}.STREAM.INFO.{EVENTS}", f"{JS_PREFIX}.DIRECT.GET.{EVENTS}"],
    **{
        pool: [f"log.{own}.{{}}", f"{JS_PREFIX}.CONSUMER.INFO.{WORK}.{consumer_name(own)}"]
        for pool, own in POOLS.items()
    },
    "runner": [f"log.{OWN}.{{}}", f"{JS_PREFIX}.CONSUMER.INFO.{WORK}.{consumer_name(OTHER)}"],
    "projector": ["$KV.jobs.{}", f"{JS_PREFIX}.STREAM.INFO.{EVENTS}"],
}


@pytest.mark.parametrize(("user", "sources"), SOURCES.items(), ids=SOURCES)
async def test_an_answer_cannot_be_directed_into_a_stream(
    attacking: Attacking, operator: Broker, user: str, sources: Sequence[str]
) -> None:
    """NATS does not check whether a client may publish to the reply subject that it names."""
    job, own = secrets.token_hex(12), secrets.token_hex(12)
    async with attacking(user) as attacker:
        for number, (source, target) in enumerate(product(sources, targets(job))):
            await attacker.client.publish(source.format(f"{own[:-4]}{number:04x}"), b"{}", reply=target)
        await attacker.client.flush()
        await attacker.ask(f"STREAM.INFO.{EVENTS}")  # the server has answered what came before
    await nothing_stored(operator, targets(job))
    for stream in (PAYLOADS, LOGS, kv_stream(JOBS_BUCKET)):  # what belongs to no job would go during later tests
        subjects = (await stored(operator))[stream][2]
        for subject in [subject for subject in subjects if own[:-4] in subject]:
            await operator.api(f"STREAM.PURGE.{stream}", {"filter": subject})


READS = [
    (f"DIRECT.GET.{EVENTS}.ev.{VICTIM}.{OTHER}.submitted", None),
    (f"DIRECT.GET.{EVENTS}.ev.{JOB}.{OWN}.submitted", None),
    (f"DIRECT.GET.{EVENTS}", {"last_by_subj": f"ev.{VICTIM}.{OTHER}.submitted"}),
    (f"DIRECT.GET.{EVENTS}", {"multi_last": [">"]}),
    (f"STREAM.MSG.GET.{EVENTS}", {"last_by_subj": f"ev.{VICTIM}.{OTHER}.submitted"}),
    (f"STREAM.INFO.{EVENTS}", {"subjects_filter": ">"}),
    (f"DIRECT.GET.{LOGS}.{log_subject(OTHER, VICTIM)}", None),
    (f"DIRECT.GET.{LOGS}", {"next_by_subj": ">", "seq": 1}),
    (f"DIRECT.GET.{PAYLOADS}.{payload_subject(OTHER, VICTIM, 0)}", None),
    (f"STREAM.MSG.GET.{PAYLOADS}", {"seq": 1}),
    (f"DIRECT.GET.{KEPT}.{kept_subject(OWN, JOB, '0' * 64, 0)}", None),
    (f"STREAM.MSG.GET.{KEPT}", {"seq": 1}),
    (f"DIRECT.GET.{kv_stream(JOBS_BUCKET)}.{kv_subject(JOBS_BUCKET, VICTIM)}", None),
    (f"STREAM.MSG.GET.{kv_stream(JOBS_BUCKET)}", {"seq": 1}),
    (f"STREAM.MSG.GET.{kv_stream(SESSIONS_BUCKET)}", {"seq": 1}),
    (f"STREAM.MSG.GET.{kv_stream(SIGNERS_BUCKET)}", {"seq": 1}),
    (f"CONSUMER.MSG.NEXT.{WORK}.{consumer_name(OTHER)}", {"batch": 1, "expires": 1_000_000}),
    ("STREAM.LIST", None),
    ("INFO", None),
]


@pytest.mark.parametrize("user", PUBLISHERS)
@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (f"{VICTIM}.0", "There is no such chunk."),
        (f"{VICTIM}.{'9' * 400}", "There is no such chunk."),
        ("*.0", "The subject names no queue, job and sequence."),
        (f"{VICTIM}.*", "The subject names no queue, job and sequence."),
        (f"{VICTIM}.-1", "The subject names no queue, job and sequence."),
    ],
)
async def test_what_a_publisher_asks_for_by_another_jobs_id_is_not_there(
    attacking: Attacking, user: str, rest: str, said: str
) -> None:
    async with attacking(user) as attacker:
        answer = await attacker.client.request(f"output.{OWN}.{rest}", timeout=PATIENCE)
        assert (answer.data, (answer.headers or {})["Stint-Error"]) == (b"", said)


@pytest.mark.parametrize("user", PUBLISHERS)
async def test_a_chunk_that_is_asked_for_cannot_be_directed_into_a_stream(
    attacking: Attacking, operator: Broker, user: str
) -> None:
    """It is what a job has written, so that a publisher could choose what it says."""
    job, forged = secrets.token_hex(12), encode(events.ended("success"))
    chunk = Chunk(number=1, offset=0, stream="stdout", digest="d" * 64, data=forged)
    await JetStreamOutput(operator).append(OWN, job, chunk, after=0)
    async with unchanged(operator), attacking(user) as attacker:
        for target in targets(job):
            await attacker.client.publish(f"output.{OWN}.{job}.0", b"", reply=target)
        answer = await attacker.client.request(f"output.{OWN}.{job}.0", timeout=PATIENCE)
        assert answer.data == forged
        await attacker.ask(f"STREAM.INFO.{EVENTS}")


def consumer_call(named: str, filtered: str, **config: Any) -> tuple[str, Mapping[str, Any]]:
    """A request that creates the consumer of a queue, or one under its name."""
    config = {
        "durable_name": consumer_name(named),
        "ack_policy": "explicit",
        "filter_subject": f"work.{OTHER}",
    } | config
    call = f"CONSUMER.CREATE.{WORK}.{consumer_name(named)}.work.{filtered}"
    return call, {"stream_name": WORK, "config": {"name": config["durable_name"], **config}}


def takes(own: str) -> list[tuple[str, Mapping[str, Any] | None]]:
    """Requests for the victim's job, by a pool that has this queue.

    Not even a consumer of its own queue is its to make: that could send what is in the queue, and NATS' own messages,
    to any subject of the streams' account.
    """
    directed = (
        f"CONSUMER.MSG.NEXT.{WORK}.{consumer_name(OTHER)}",
        f"STREAM.PURGE.{LOGS}",
        *(subject for subject in targets(secrets.token_hex(12))),
    )
    return [
        (f"CONSUMER.MSG.NEXT.{WORK}.{consumer_name(OTHER)}", {"batch": 1, "expires": 1_000_000}),
        (f"CONSUMER.INFO.{WORK}.{consumer_name(OTHER)}", None),
        consumer_call(OTHER, OTHER),
        consumer_call(own, OTHER),
        consumer_call(own, own),
        consumer_call(own, own, durable_name=consumer_name(OTHER)),
        *(consumer_call(own, own, filter_subject=f"work.{own}", deliver_subject=subject) for subject in directed),
        (f"DIRECT.GET.{PAYLOADS}.{payload_subject(OTHER, VICTIM, 0)}", None),
        (f"DIRECT.GET.{PAYLOADS}", {"multi_last": [">"]}),
        (f"STREAM.MSG.GET.{PAYLOADS}", {"seq": 1}),
        (f"STREAM.MSG.GET.{WORK}", {"seq": 1}),
        (f"DIRECT.GET.{WORK}", {"multi_last": [">"]}),
        (f"STREAM.MSG.DELETE.{WORK}", {"seq": 1}),
    ]


@pytest.mark.parametrize(("user", "own"), POOLS.items(), ids=POOLS)
async def test_a_pools_key_cannot_take_another_queues_job(
    attacking: Attacking, operator: Broker, user: str, own: str
) -> None:
    """Neither the job nor its payload. A consumer for its own queue does not filter another one."""
    async with unchanged(operator), attacking(user) as attacker:
        for call, request in takes(own):
            answer = json.loads(await attacker.ask(call, request) or b'{"error": "no answer"}')
            assert "error" in answer, (call, request)


WANTED = [
    (b'{"lease":30,"deliver_subject":"ev.x.y.z","config":{"deliver_subject":"ev.x.y.z"}}', ""),
    *((b'{"lease":%b}' % lease, "Not a Wanted") for lease in (b"0", b"0.1", b"-1", b"1e300", b"null", b'"30"')),
    *((body, "Not a Wanted") for body in (b"", b"{}", b"\xff{", b"[" * 100_000)),
]


@pytest.mark.parametrize(("user", "own"), POOLS.items(), ids=POOLS)
async def test_a_pool_chooses_nothing_of_its_queues_consumer_but_the_lease(
    attacking: Attacking, operator: Broker, user: str, own: str
) -> None:
    await create_consumer(operator, own, 30)  # unless there is one
    async with unchanged(operator), attacking(user) as attacker:
        for body, refusal in WANTED:
            answer = json.loads((await attacker.client.request(f"consumer.{own}", body, timeout=PATIENCE)).data)
            assert ("error" in answer) == bool(refusal), (body, answer)
            assert refusal in str(answer)
        await attacker.refused(f"consumer.{OTHER}", WANTED[0][0])
        for target in targets(secrets.token_hex(12)):
            await attacker.client.publish(f"consumer.{own}", WANTED[0][0], reply=target)
            await attacker.client.request(f"consumer.{own}", WANTED[0][0], timeout=PATIENCE)
    made = (await operator.api(f"CONSUMER.INFO.{WORK}.{consumer_name(own)}"))["config"]
    assert (made["filter_subject"], made["max_ack_pending"], "deliver_subject" in made) == (f"work.{own}", 1, False)
    assert made["ack_wait"] == 30 * NANOSECONDS


async def test_a_pools_hint_reaches_only_its_own_runners(
    accounts: Accounts, server: Attacked, attacking: Attacking, operator: Broker
) -> None:
    async with (
        attacking("nets") as attacker,
        accounts.connected(server.url, "runner") as runner,
        runner.subscribe(HINTS) as hints,
    ):
        await attacker.publish(hint_subject(OTHER))
        await operator.publish(f"ev.{secrets.token_hex(12)}.{MATCHED}.submitted", b"{}")
        assert (await hints.next_msg(PATIENCE)).subject == hint_subject(MATCHED)


NOT_TOLD = [
    *READS,
    *((f"CONSUMER.{call}.{stream}.sub-told", None) for call in ("MSG.NEXT", "INFO") for stream in (EVENTS, LOGS)),
    (f"CONSUMER.MSG.NEXT.{EVENTS}.{PROJECTOR_DURABLE}", None),
    (f"DIRECT.GET.{EVENTS}.ev.{VICTIM}.{OTHER}.ended", None),
    (f"CONSUMER.LIST.{EVENTS}", None),
]


async def test_a_subscribers_ack_that_asks_for_more_directs_nothing_into_a_stream(
    attacking: Attacking, operator: Broker
) -> None:
    """`+NXT` sends the next messages to the reply subject of the ack."""
    name, job = subscription("greedy"), secrets.token_hex(12)
    ended = encode(events.ended("success"))
    for _ in range(2):
        await operator.publish(f"ev.{secrets.token_hex(12)}.{OWN}.ended", ended)
    async with attacking("greedy") as attacker:
        answers = await attacker.client.subscribe(inbox := attacker.client.new_inbox())
        await attacker.client.publish(f"{JS_PREFIX}.CONSUMER.MSG.NEXT.{EVENTS}.{name}", b"1", reply=inbox)
        taken = await answers.next_msg(timeout=10)
        assert taken.data == ended
        for target in targets(job):
            await attacker.client.publish(taken.reply, b'+NXT {"batch": 10, "no_wait": true}', reply=target)
        await attacker.client.flush()
        await attacker.ask(f"CONSUMER.INFO.{EVENTS}.{name}")  # the server has answered what came before
    await nothing_stored(operator, targets(job))


NOT_HEARD = {
    **dict.fromkeys(
        PUBLISHERS,
        (
            *(">", "*.>", "ev.>", "live.>", "tail.>", "log.>", "$KV.>", "hint.*", "work.*", "$JS.>", "$SYS.>"),
            *(f"live.*.{OTHER}.ended", f"live.*.{OWN}.submitted", f"tail.{OTHER}.*", "_INBOX.>", "_INBOX.victim.>"),
            *("output.>", f"output.{OWN}.*.*", "removal.>"),
        ),
    ),
    SUBSCRIBER: (">", "live.>", f"live.*.{OWN}.ended", "tail.>", "$JS.>", "_INBOX.>", "_INBOX.told.>"),
    "subnet": ("hint.*", f"hint.{OTHER}", f"live.*.{OTHER}.*", "live.>", f"tail.{OTHER}.*", "removal.>"),
    "nets": (f"live.*.{OTHER}.*", "live.>", f"tail.{OTHER}.*", "removal.>"),
}


@pytest.mark.parametrize(("user", "subjects"), NOT_HEARD.items(), ids=NOT_HEARD)
async def test_nobody_hears_what_others_are_told(attacking: Attacking, user: str, subjects: Sequence[str]) -> None:
    async with attacking(user) as attacker:
        for subject in subjects:
            await attacker.deaf(subject)


@pytest.mark.parametrize("user", [user for user in EVERYBODY if user != "runner"])
async def test_nobody_but_runners_answers_a_delivery(
    attacking: Attacking, operator: Broker, held: str, user: str
) -> None:
    async with unchanged(operator), attacking(user) as attacker:
        for answer in (b"+ACK", b"-NAK", b"+WPI", b"+TERM"):
            await attacker.refused(held, answer)


CHANGES = [
    (f"STREAM.DELETE.{EVENTS}", None),
    (f"STREAM.UPDATE.{EVENTS}", {"name": EVENTS, "subjects": ["nothing"]}),
    ("STREAM.CREATE.THEIRS", {"name": "THEIRS", "subjects": ["theirs"]}),
    (f"STREAM.PURGE.{WORK}", None),
    (f"STREAM.PURGE.{kv_stream(JOBS_BUCKET)}", None),
    (f"STREAM.MSG.DELETE.{EVENTS}", {"seq": 1}),
    (f"STREAM.SNAPSHOT.{EVENTS}", {"deliver_subject": f"_INBOX.{PUBLISHER}.x"}),
    ("STREAM.RESTORE.THEIRS", {"config": {"name": "THEIRS"}}),
    (f"CONSUMER.DELETE.{WORK}.{consumer_name(OTHER)}", None),
    (f"CONSUMER.DELETE.{EVENTS}.{PROJECTOR_DURABLE}", None),
    (f"CONSUMER.PAUSE.{WORK}.{consumer_name(OTHER)}", {"pause_until": "2099-01-01T00:00:00Z"}),
    (f"CONSUMER.CREATE.{EVENTS}", {"stream_name": EVENTS, "config": {"deliver_subject": f"log.{OTHER}.{VICTIM}"}}),
    (f"CONSUMER.CREATE.{EVENTS}.x", {"stream_name": EVENTS, "config": {"name": "x", "ack_policy": "none"}}),
    *(
        (f"CONSUMER.{call}", {"stream_name": EVENTS, "config": {"name": "sub-eve", "filter_subject": "ev.>"}})
        for call in (f"CREATE.{EVENTS}.sub-eve", f"CREATE.{EVENTS}.sub-eve.ev.>", f"DURABLE.CREATE.{EVENTS}.sub-eve")
    ),
    (f"CONSUMER.DELETE.{EVENTS}.sub-eve", None),
    (f"CONSUMER.DELETE.{LOGS}.sub-told", None),
    (f"CONSUMER.CREATE.{LOGS}.x", {"stream_name": LOGS, "config": {"name": "x", "ack_policy": "none"}}),
]


OF_THE_PROJECTOR = [(f"STREAM.PURGE.{EVENTS}", None), (f"STREAM.UPDATE.{WORK}", {"name": WORK, "subjects": ["theirs"]})]
NOT_ASKED = {
    user: [
        *CHANGES,
        *(READS if user in PUBLISHERS else NOT_TOLD if user == SUBSCRIBER else ()),
        *(OF_THE_PROJECTOR if user != "projector" else ()),
        *([(f"STREAM.MSG.DELETE.{WORK}", {"seq": 1})] if user not in {"projector", "runner"} else ()),
    ]
    for user in EVERYBODY
}
"""What each user must not ask of JetStream: to change it, or to tell of others' jobs."""


@pytest.mark.parametrize(("user", "requests"), NOT_ASKED.items(), ids=NOT_ASKED)
async def test_nobody_reads_or_changes_what_is_not_its_own(
    attacking: Attacking, operator: Broker, user: str, requests: Sequence[tuple[str, Mapping[str, Any] | None]]
) -> None:
    async with unchanged(operator), attacking(user) as attacker:
        for call, request in requests:
            await attacker.unanswered(call, request)


HEADERS: list[dict[str, str]] = [
    {"Nats-Rollup": "sub"},
    {"Nats-TTL": "1s"},
    {"Nats-Schedule": "@at 2030-01-01T00:00:00Z"},
    {"Nats-Incr": "+1"},
    {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "2"},
    {"Nats-Stream-Source": f"EVENTS 1 > > ev.{JOB}.{OTHER}.ended"},
    {"Nats-Expected-Last-Subject-Sequence": "7"},
    {"Nats-Expected-Stream": WORK},
]


@pytest.mark.parametrize("user", PUBLISHERS)
async def test_headers_give_a_publisher_no_further_rights(attacking: Attacking, operator: Broker, user: str) -> None:
    before = (await settled(operator))[EVENTS][2]
    async with attacking(user) as attacker:
        for headers in HEADERS:
            await attacker.publish(f"ev.{JOB}.{OWN}.submitted", headers=headers)
            await attacker.publish(f"ev.{JOB}.{OWN}.submitted", headers=headers)
            assert (await stored(operator))[EVENTS][2] == before, headers


@pytest.mark.parametrize("user", PUBLISHERS)
async def test_a_publisher_begins_no_atomic_batch(attacking: Attacking, user: str) -> None:
    """NATS has 50 places for them, for everybody, and keeps what was sent on its disk until they end, uncounted."""
    batch = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"}
    async with attacking(user) as attacker:
        for subject in (f"ev.{JOB}.{OWN}.submitted", f"pl.{OWN}.{JOB}.0"):
            answer = await attacker.client.request(subject, headers=batch, timeout=PATIENCE)
            assert "atomic publish is disabled" in json.loads(answer.data)["error"]["description"]


@pytest.mark.parametrize("user", PUBLISHERS)
async def test_a_message_id_of_anothers_does_not_suppress_its_submission(
    accounts: Accounts, server: Attacked, attacking: Attacking, user: str
) -> None:
    """Stint's own clients send none; whoever does shares them with all."""
    victim = secrets.token_hex(12)
    async with attacking(user) as attacker, accounts.connected(server.url, "api") as api:
        await attacker.publish(f"ev.{victim}.{OWN}.submitted", encode(events.submitted("own")), {"Nats-Msg-Id": victim})
        await JetStreamEventLog(api).append(OTHER, victim, events.submitted("other"))
        found = await api.direct_get(EVENTS, {"multi_last": [f"ev.{victim}.{OTHER}.submitted"]})
    assert len(found) == 1


@pytest.mark.parametrize("user", PUBLISHERS)
async def test_what_a_user_floods_its_own_queue_with_disturbs_nobody(
    server: Attacked, attacking: Attacking, operator: Broker, user: str
) -> None:
    """Each piece of it ends as rejected, also that which takes the victim's id."""
    junk = [b"{}", b"", b"junk", b"\xff", b"[" * 1000, b"x" * 60_000, b'{"ticket": 7}']
    jobs = [VICTIM, *(secrets.token_hex(12) for _ in junk[1:])]
    async with attacking(user) as attacker:
        for job, body in zip(jobs, junk, strict=True):
            await attacker.publish(f"ev.{job}.{OWN}.submitted", body)
        await settled(operator)
        await server.works("own", "another")
    for job in jobs:
        found = await operator.direct_get(EVENTS, {"multi_last": [f"ev.{job}.{OWN}.rejected"]})
        assert len(found) == 1, job


async def test_after_all_this_the_victim_ends_well_and_everything_works(server: Attacked, operator: Broker) -> None:
    stack = server.stack
    assert (await stack.get(VICTIM))["status"] == "running"
    await stack.go_on(VICTIM)
    async with stint.client.Client.from_env(stack.env) as client:
        result = await client.job(VICTIM).copy_output(output := io.BytesIO())  # which it checks by its digests
    assert (result.status, result.info.output_complete, output.getvalue()) == ("success", True, b"before\nafter\n")
    info = await operator.api(f"STREAM.INFO.{EVENTS}", {"subjects_filter": f"ev.{VICTIM}.{OTHER}.>"})
    own = {f"ev.{VICTIM}.{OTHER}.{kind}": 1 for kind in ("submitted", "started", "launched", "ended")}
    assert info["state"]["subjects"] == own
    await server.works("other", "own", "another")
