"""The library for publishers, with a key for one queue, on a real NATS and a real Vault. The test plays the runner."""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import nkeys
import pytest

from stint.client import Endpoints, Fact, JobEvent, JobFailedError, JobResult, Output
from stint.core.codec import decode
from stint.core.errors import BrokerRefusedError, BrokerUnavailableError, StintError
from stint.core.events import KillRequested, Submitted
from stint.core.job import State
from stint.core.names.ids import queue_token
from stint.core.names.subjects import tail_subject
from stint.core.submission.payload import JobPayload
from stint.jetstream import Access, Broker, JetStreamEventLog, JetStreamPayloads, serve_output
from stint.jetstream.payloads import CHUNK_BYTES
from stint.jetstream.wire import fair
from stint.jetstream.wire.protocol import NoAnswerError
from stint.publisher import (
    DeniedError,
    JobDeletedError,
    OutputMissedError,
    PublishedJob,
    Publisher,
    SubmissionInDoubtError,
    output,
    publisher,
)
from stint.publisher import job as job_module
from stint.vault import Vault
from stint.vault.setup import client_token
from stint.vault.ticket import open_ticket
from tests.support import events, submissions
from tests.support.accounts import Accounts, Guarded
from tests.support.brokers import loaded
from tests.support.outputs import Played
from tests.support.servers import OpenBao
from tests.support.vault_bench import ROLE, set_up
from tests.support.waiting import meanwhile, until_true

TEAM = "ci"
QUEUE = queue_token("deploys")


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    return Accounts(tmp_path_factory.mktemp("keys"), {TEAM: ["deploys"]})


@pytest.fixture(scope="module")
async def runner(server: Guarded) -> AsyncIterator[Broker]:
    async with server.connected("runner") as runner:
        yield runner


@pytest.fixture(scope="module")
async def stint(server: Guarded, openbao: OpenBao) -> AsyncIterator[Publisher]:
    await set_up(openbao)
    token = await client_token(openbao.address, openbao.root_token, policies=["stint-publisher"])
    where = Endpoints(url="", vault_addr=openbao.address, token=token, role=ROLE)
    async with Publisher(server.access(TEAM), where) as stint:
        yield stint


@pytest.fixture
async def job(stint: Publisher) -> PublishedJob:
    return await stint.submit(queue="deploys", image="busybox")


async def run(runner: Broker, job: PublishedJob, *chunks: bytes, code: int = 0) -> None:
    """Play the job's runner."""
    played = Played(runner, QUEUE, job.id)
    await played.begin(*(("stdout", chunk) for chunk in chunks))
    await played.end(*(("failed", "exit_code", code) if code else ()))


@pytest.fixture
async def _reading(server: Guarded) -> AsyncIterator[None]:
    """What an API does for publishers."""
    async with server.connected("api") as api, meanwhile(serve_output(api)):
        yield


def heard(stint: Publisher) -> Sequence[str]:
    """The subjects that it has subscribed to."""
    return [subscription.subject for subscription in stint._broker.client._subs.values()]  # noqa: SLF001 - nothing else tells


async def collected(job: PublishedJob) -> list[JobEvent]:
    return [item async for item in job.stream()]


async def test_a_job_that_nobody_has_any_more_is_not_heard(stint: Publisher) -> None:
    job = await stint.submit(queue="deploys", image="busybox")
    subject = tail_subject(QUEUE, job.id)
    assert subject in heard(stint)
    del job
    await until_true(lambda: subject not in heard(stint))


async def test_a_job_is_submitted_and_followed_to_its_end(runner: Broker, stint: Publisher, openbao: OpenBao) -> None:
    command = "x" * CHUNK_BYTES  # sealed it takes more than one chunk
    job = await stint.submit(queue="Deploys", image="busybox", run=[command], on_lost="hold")
    submitted = submissions.submitted(await loaded(JetStreamEventLog(runner), job.id))
    assert (job.queue, submitted.qname, submitted.on_lost) == ("deploys", "deploys", "hold")
    sealed = await JetStreamPayloads(runner).get(QUEUE, job.id, submitted.payload_chunks)
    async with Vault(openbao.address) as vault:
        ticket = await open_ticket(vault, openbao.root_token, submitted.ticket, queue_token=QUEUE, job_id=job.id)
        opened = decode(await vault.decrypt(openbao.root_token, ROLE, sealed.decode()), JobPayload)
    assert ticket.payload_sha256 == hashlib.sha256(sealed).hexdigest()
    assert (opened.container_image, opened.run) == ("busybox", (command,))
    running = asyncio.create_task(run(runner, job, b"one\n", b"two\n", code=3))
    items = [item async for item in job.stream()]
    await running
    assert [item.data for item in items if isinstance(item, Output)] == [b"one\n", b"two\n"]
    assert [item.kind for item in items if isinstance(item, Fact)] == ["submitted", "started", "ended"]
    result = items[-1]
    assert isinstance(result, JobResult)
    assert (result.status, result.exit_code, result.last_lines) == ("failed", 3, ("one", "two"))
    assert await job.wait() == result  # and again, from the beginning


async def test_a_kill_is_requested_once(runner: Broker, job: PublishedJob) -> None:
    await job.kill()
    await job.kill()
    async with asyncio.timeout(60), aclosing(job.stream()) as items:
        kinds = [item.kind for item in [await anext(items), await anext(items)] if isinstance(item, Fact)]
    stored = await loaded(JetStreamEventLog(runner), job.id)
    assert (kinds, stored.kill_requested) == ([Submitted.kind, KillRequested.kind], True)


async def test_a_rejected_job_has_failed(runner: Broker, job: PublishedJob) -> None:
    await JetStreamEventLog(runner).append(QUEUE, job.id, events.rejected())
    with pytest.raises(JobFailedError) as caught:
        (await job.wait(timeout=60)).check()
    assert caught.value.reason == "rejected"


async def test_a_job_that_is_deleted_has_no_result(server: Guarded, stint: Publisher, job: PublishedJob) -> None:
    with pytest.raises(TimeoutError):
        await job.wait(timeout=0.01)
    async with server.connected("api") as api:
        await JetStreamEventLog(api).append(QUEUE, job.id, events.deleted())
    before = len(heard(stint))
    with pytest.raises(JobDeletedError):
        await job.wait(timeout=60)
    assert len(heard(stint)) < before, "nothing more is heard of it"


@pytest.mark.usefixtures("_reading")
async def test_missed_output_is_read_again(
    runner: Broker, stint: Publisher, job: PublishedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a publisher that knows only the job's id, and after the APIs have dropped its requests."""
    await job._heard.aclose()  # noqa: SLF001 - as if the connection had been lost
    await run(runner, job, b"missed", b"also", b"last", code=3)
    known = await stint.job("Deploys", job.id.upper())  # both are compared in lower case
    monkeypatch.setattr(fair, "OF_ALL", 0)
    monkeypatch.setattr(output, "ASKED", 0.1)
    async with asyncio.timeout(60):
        following = asyncio.create_task(collected(known))
        await until_true(lambda: known._output.why == "No API answers.")  # noqa: SLF001 - nothing else tells it
        monkeypatch.undo()
        items, result = await following, await job.wait()
    chunks = [item for item in items if isinstance(item, Output)]
    assert [chunk.data for chunk in chunks] == [b"missed", b"also", b"last"]
    assert all(chunk.at for chunk in chunks)
    assert [item.kind for item in items if isinstance(item, Fact)] == ["started", "ended"]
    assert isinstance(known_result := items[-1], JobResult)
    assert (known_result.status, known_result.exit_code, known_result.tail) == (result.status, 3, b"missedalsolast")


@pytest.mark.usefixtures("_reading")
async def test_who_comes_late_reads_a_running_jobs_output(runner: Broker, stint: Publisher, job: PublishedJob) -> None:
    await Played(runner, QUEUE, job.id).begin(("stdout", b"one"), ("stdout", b"two"))
    late = await stint.job("deploys", job.id)
    async with asyncio.timeout(60), aclosing(late.stream()) as items:
        read = [await anext(items) for _ in range(3)]
    assert [item.data for item in read if isinstance(item, Output)] == [b"one", b"two"]
    assert isinstance(read[-1], Fact)
    assert read[-1].kind == "started"


@pytest.mark.usefixtures("_reading")
async def test_output_is_in_memory_in_part(runner: Broker, job: PublishedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "KEPT_BYTES", 2 * output.CHUNK_COST)
    written = [secrets.token_bytes(500) for _ in range(8)]
    async with asyncio.timeout(60):
        await run(runner, job, *written)
        for _ in range(2):
            assert [item.data for item in await collected(job) if isinstance(item, Output)] == written
    assert len(job._output.heard) == 1  # noqa: SLF001 - what is in memory


async def test_without_an_api_missed_output_is_told(
    runner: Broker, job: PublishedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "MISSED", 2.0)
    await job._heard.aclose()  # noqa: SLF001 - as if the connection had been lost
    await run(runner, job, b"missed", b"last")
    with pytest.raises(OutputMissedError, match=r"Chunk 1 .* No API answers"):
        await job.wait(timeout=60)


async def test_a_queue_of_others_is_refused_at_once(stint: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for an answer of NATS."""
    monkeypatch.setattr(publisher, "ANSWER", 600.0)
    before = len(heard(stint))
    with pytest.raises(BrokerRefusedError, match="does not permit this publisher to submit"):
        async with asyncio.timeout(60):
            await stint.submit(queue="releases", image="busybox")
    assert len(heard(stint)) == before
    job = await stint.job("releases", "a" * 24)
    with pytest.raises(DeniedError):
        await job.wait(timeout=60)


async def test_a_submission_is_stored_once(runner: Broker, stint: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    published, real, lost = Counter[str](), stint._broker.publish, 1  # noqa: SLF001 - NATS itself loses no answer

    async def publish(subject: str, body: bytes, headers: Mapping[str, str] | None = None, *rest: float) -> Any:
        answer = await real(subject, body, headers, *rest)
        published[subject] += 1
        if published[subject] <= lost:
            raise NoAnswerError
        return answer

    monkeypatch.setattr(stint._broker, "publish", publish)  # noqa: SLF001 - as above
    job = await stint.submit(queue="deploys", image="busybox")
    await loaded(JetStreamEventLog(runner), job.id)
    assert set(published.values()) == {2}
    lost = publisher.ATTEMPTS
    with pytest.raises(BrokerUnavailableError, match="did not acknowledge"):
        await stint.submit(queue="deploys", image="busybox")


@pytest.mark.parametrize("then", [NoAnswerError, BrokerUnavailableError, BrokerRefusedError, DeniedError])
async def test_a_submission_in_doubt_names_its_job(
    runner: Broker, stint: Publisher, monkeypatch: pytest.MonkeyPatch, then: type[StintError]
) -> None:
    """NATS has stored it, and no answer comes; nor does what comes of another attempt end the doubt."""
    real = stint._broker.publish  # noqa: SLF001 - NATS itself loses no answer
    failures = iter((NoAnswerError(), then(), then()))

    async def publish(subject: str, *rest: Any) -> Any:
        answer = await real(subject, *rest)
        if subject.startswith("ev."):
            raise next(failures)
        return answer

    monkeypatch.setattr(stint._broker, "publish", publish)  # noqa: SLF001 - as above
    with pytest.raises(SubmissionInDoubtError) as caught:
        await stint.submit(queue="deploys", image="busybox")
    job_id = caught.value.job_id
    assert caught.value.sentence == f"NATS did not answer. It is not known whether job {job_id} was submitted."
    assert (await loaded(JetStreamEventLog(runner), job_id)).state is State.QUEUED


@pytest.mark.soak
async def test_whom_nats_does_not_let_in_is_told(server: Guarded, openbao: OpenBao) -> None:
    key = nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)).seed.decode()
    stranger = Access(url=server.url, nkey=key, inbox=f"_INBOX.{TEAM}")
    where = Endpoints(url="", vault_addr=openbao.address, token="none")
    with pytest.raises(BrokerUnavailableError, match="not reachable, or does not let"):
        async with Publisher(stranger, where):
            pass
