"""What a publisher gets wrong comes back to it over the bus, with a reason that its own permissions let it read."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from stint.core.codec import decode
from stint.core.events import EVENT_TYPES, Ended, Rejected
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import JS_PREFIX, EventAddress, live_filter, payload_subject
from stint.jetstream import Access, Broker
from stint.jetstream.payloads import CHUNK_BYTES
from stint.process.settings import RunnerSettings
from stint_runner.inputs.memory import MemoryBudget
from stint_runner.job.run import TAKEN
from tests.support.accounts import Accounts, connected, token_for
from tests.support.attacked import Attacked, attacked
from tests.support.runner_bench import Bench, make_bench

QNAME = "own"
QUEUE = queue_token(QNAME)


@dataclass
class Publisher:
    """A publisher with a Vault token, and a whole stack, whose runner is in this process."""

    server: Attacked
    bench: Bench
    broker: Broker
    api: Broker
    memory: MemoryBudget

    async def publish(self, job_id: str, body: bytes) -> Mapping[str, Any]:
        """Announce a job; returns what NATS answers."""
        return await self.broker.publish(EventAddress("submitted", QUEUE, job_id).subject, body)

    async def told(self, job_id: str, body: bytes) -> tuple[str, str]:
        """The kind of the event that ends the job, and its sentence, as this publisher hears and reads them."""
        kinds = {Ended.kind, Rejected.kind}
        heard: asyncio.Queue[str] = asyncio.Queue()

        async def note(message: Any) -> None:
            heard.put_nowait(message.subject.rpartition(".")[2])

        async with (
            asyncio.timeout(60),
            self.broker.subscribe(live_filter(Ended.kind, QUEUE, job_id), cb=note),
            self.broker.subscribe(live_filter(Rejected.kind, QUEUE, job_id), cb=note),
        ):
            await self.broker.client.flush()
            assert "error" not in await self.publish(job_id, body)
            kind = await heard.get()
            assert kind in kinds
            subject = EventAddress(kind, QUEUE, job_id).subject
            found = await self.broker.request(f"{JS_PREFIX}.DIRECT.GET.{EVENTS}.{subject}")
        event = decode(found.data, EVENT_TYPES[kind])
        assert isinstance(event, Ended | Rejected)
        return kind, event.error


@pytest.fixture(scope="module")
async def publisher(busybox: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Publisher]:
    folder = tmp_path_factory.mktemp("rejections")
    async with attacked(folder, "--runners", "0") as server:
        accounts, openbao = Accounts(server.keys), server.openbao
        token = await token_for(openbao, {QNAME: ["create", "read"]})
        async with (
            accounts.connected(server.url, "runner") as service,
            accounts.connected(server.url, "api") as api,
            connected(Access(url=server.url, user=QNAME, password=token)) as broker,
        ):
            runs = await make_bench(service, openbao, busybox, folder)
            async with runs.runner():
                memory = runs.runners["runner-1"].memory
                yield Publisher(server, await make_bench(broker, openbao, busybox, folder), broker, api, memory)


Made = Callable[[Publisher, str], Awaitable[bytes]]


def body(*, sealed: Mapping[str, Any] | None = None, **changed: Any) -> Made:
    """A good submission with these changes, and with these in its ticket."""

    async def made(publisher: Publisher, job_id: str) -> bytes:
        good = await publisher.bench.submission(job_id, queue=QNAME, **(sealed or {}))
        return msgspec.json.encode({**msgspec.to_builtins(good), **changed})

    return made


def raw(data: bytes) -> Made:
    async def made(_publisher: Publisher, _job_id: str) -> bytes:
        return data

    return made


async def long_chunk(publisher: Publisher, job_id: str) -> bytes:
    await publisher.broker.publish(payload_subject(QUEUE, job_id, 0, "long-"), b"x" * (CHUNK_BYTES + 1))
    return await body(payload_try="long-")(publisher, job_id)


REJECTED = {
    "no ticket": (body(ticket="junk"), "no ticket"),
    "an empty ticket": (body(ticket=""), "no ticket"),
    "the ticket of another job": (body(sealed={"ticket_for": "c" * 24}), "one of another job"),
    "nothing": (raw(b""), "not a submission"),
    "no JSON": (raw(b"junk"), "not a submission"),
    "no text": (raw(b"\xff\xfe"), "not a submission"),
    "another event": (raw(b'{"type":"ended"}'), "not a submission"),
    "a number for a text": (body(ticket=7), "not a submission"),
    "a text for a number": (body(payload_bytes="many"), "not a submission"),
    "a large message": (raw(b"x" * 60_000), "not a submission"),
    "a payload of too many chunks": (body(payload_chunks=129), "at most 128 chunks"),
    "a payload of too many bytes": (body(payload_bytes=64 * 2**20 + 1), "at most 128 chunks, and 67108864 bytes"),
    "a size over 64 bits": (body(payload_bytes=2**70), "at most 128 chunks"),
    "a ticket with a time that is none": (body(sealed={"wrap_expires_at": "yesterday"}), "no ticket"),
    "a ticket with a time before all times": (
        body(sealed={"wrap_expires_at": "0001-01-01T00:00:00+14:00"}),
        "no ticket",
    ),
}
ENDED = {
    "a payload that is longer than what is stored": (body(payload_chunks=2), "1 of its 2 chunks"),
    "a payload under a name with a space": (body(payload_try="a b"), "not up to 64 letters"),
    "a payload under a name longer than NATS takes": (body(payload_try="x" * 5000), "not up to 64 letters"),
    "a payload with a chunk that is too long": (long_chunk, "at most 524288 bytes"),
    "a payload of no chunk": (body(payload_chunks=0), "not the one that was submitted"),
    "a payload of less than nothing": (body(payload_chunks=-(10**12), payload_bytes=-(10**15)), "not the one"),
    "a token that is none": (body(sealed={"wrap_secret_id": "junk"}), "unwrap"),
    # These run: what is wrong does not count.
    "a time that is none": (body(at="yesterday"), ""),  # the time that counts is that of NATS
    "a size that is too small": (body(payload_bytes=1), ""),
    "a queue's name that is not the subject's": (body(qname="other"), ""),
}


@pytest.mark.parametrize("case", [*REJECTED, *ENDED])
async def test_what_is_wrong_comes_back_with_its_reason(publisher: Publisher, case: str) -> None:
    """What is no submission as rejected, all else as ended."""
    made, reason = (REJECTED | ENDED)[case]
    job_id = secrets.token_hex(12)
    kind, sentence = await publisher.told(job_id, await made(publisher, job_id))
    assert kind == (Rejected.kind if case in REJECTED else Ended.kind)
    assert reason in sentence if reason else sentence == ""
    assert "hvs." not in sentence


async def test_an_id_that_another_queue_has_taken_first_comes_back_as_rejected(publisher: Publisher) -> None:
    """Ids are random. Whoever knew one in advance could have it refused, and no more: it is never lost silently."""
    job_id = secrets.token_hex(12)
    await publisher.api.publish(EventAddress("submitted", queue_token("other"), job_id).subject, b"{}")
    assert await publisher.told(job_id, await body()(publisher, job_id)) == (Rejected.kind, TAKEN)


async def test_after_all_this_a_good_job_runs_and_the_runner_has_the_memory_that_it_had(publisher: Publisher) -> None:
    """A submission that says it is smaller than nothing must not enlarge the runner's memory for payloads."""
    job_id = secrets.token_hex(12)
    assert await publisher.told(job_id, await body()(publisher, job_id)) == (Ended.kind, "")
    assert publisher.memory.free <= RunnerSettings.model_fields["prepare_memory"].default
    await publisher.server.works(QNAME, "other", "another")
