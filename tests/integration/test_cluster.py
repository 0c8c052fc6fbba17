"""A cluster of three servers that loses its leader, a follower, and its quorum."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from stint.core.errors import BrokerUnavailableError, PayloadMissingError
from stint.core.events import AnyEvent
from stint.core.job import Job, State
from stint.core.names.headers import LABEL_JOB
from stint.core.names.streams import EVENTS, PAYLOADS, WORK
from stint.core.names.subjects import barrier_subject
from stint.jetstream import Broker, JetStreamEventLog, JetStreamHistory, JetStreamPayloads, Sourcing
from stint.jetstream.streams.consistency import current_subjects
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.protocol import ErrorCode, error_code
from stint.ports import Outcome, Place
from stint_runner.job.examine import READS
from stint_runner.retry import retry
from tests.integration.test_janitor import working
from tests.support import events
from tests.support.api_bench import BODY, api
from tests.support.cluster import ELECTED, SIZE, Cluster, clustered, connected_to
from tests.support.runner_bench import make_bench
from tests.support.servers import NatsProcess, OpenBao
from tests.support.views import all_views
from tests.support.waiting import meanwhile, until

WRITERS = 8
JOBS_BEFORE = 40
"""Written before something happens to the cluster."""
JOBS_AFTER = 80
SOURCED = 120.0
"""Seconds until WORK has what EVENTS has. Its leader tries at long intervals to reach that of EVENTS: 45 seen."""
SOURCED_SOON = 20.0
"""The same where somebody sees to it: 8 measured."""

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with clustered(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def broker(cluster: Cluster) -> AsyncIterator[Broker]:
    async with connected_to(cluster) as broker:
        for stream in (EVENTS, PAYLOADS, WORK):
            await cluster.whole(broker, stream)
        yield broker


def new_id() -> str:
    return secrets.token_hex(12)


class Load:
    """Writers that submit jobs and kill each while it is queued, which takes one fact and then two at once."""

    def __init__(self, broker: Broker) -> None:
        self.log = JetStreamEventLog(broker)
        self.payloads = JetStreamPayloads(broker)
        self.broker = broker
        self.submitted: dict[str, Outcome] = {}
        self.killed: dict[str, Outcome] = {}
        self.doubtful: list[str] = []
        self._reached = asyncio.Event()
        self._happened = asyncio.Event()

    async def begin(self) -> None:
        """Return once enough was written. Writing goes on."""
        self._writing = asyncio.gather(*(self._write() for _ in range(WRITERS)))
        await self._reached.wait()

    async def finish(self) -> None:
        """Return once enough was written since the call."""
        self._happened.set()
        await self._writing

    async def _write(self) -> None:
        after = 0
        while after < JOBS_AFTER / WRITERS:
            after += self._happened.is_set()
            await self._one(new_id())
            if len(self.submitted) >= JOBS_BEFORE:
                self._reached.set()

    async def _one(self, job_id: str) -> None:
        await self._put(job_id)
        fact = events.submitted()
        while (outcome := await self._append(job_id, fact)) is Outcome.UNKNOWN:
            self.doubtful.append(job_id)
        self.submitted[job_id] = outcome
        job = await _loaded(self.log, job_id)
        assert job is not None, "acknowledged"
        facts = events.kill_requested(), events.ended("failed", "killed")
        self.killed[job_id] = await self._append(job_id, *facts, after=job.sequence)

    async def _put(self, job_id: str) -> None:
        """Store its payload, as often as it takes: on a busy machine an election may last longer than one call does."""
        while True:
            with suppress(BrokerUnavailableError):
                await self.payloads.put(events.TOKEN, job_id, b"sealed")
                return

    async def _append(self, job_id: str, *facts: AnyEvent, after: int | None = None) -> Outcome:
        """UNKNOWN also if NATS has taken it for sure at no attempt."""
        try:
            return await self.log.append(events.TOKEN, job_id, *facts, after=after)
        except BrokerUnavailableError:
            return Outcome.UNKNOWN

    async def check(self) -> None:
        """Nothing that was won is lost, and nothing is there twice or in part."""
        assert set(self.submitted.values()) == {Outcome.WON}
        assert set(self.killed.values()) <= {Outcome.WON, Outcome.UNKNOWN}
        for job_id in self.submitted:
            job = await _loaded(self.log, job_id)
            assert job is not None
            whole = job.state is State.FAILED and {"submitted", "kill_requested", "ended"} == set(job.facts)
            assert whole or (self.killed[job_id] is Outcome.UNKNOWN and set(job.facts) == {"submitted"}), job
        # A leader that has just resumed counts what it knew, until it hears of its successor.
        # Another stream than the one that was waited for may still be without a leader.
        for stream, subject in ((EVENTS, "ev.*.*.submitted"), (PAYLOADS, "pl.>")):
            count = partial(_count, self.broker, stream, subject)
            await until(count, lambda found: found == len(self.submitted), seconds=SOURCED)
        await until(self._all_in_work, seconds=SOURCED)

    async def _all_in_work(self) -> bool:
        with suppress(BrokerUnavailableError):  # it may have lost its leader too
            info = await Stream(self.broker, WORK).info()
            return bool(info["state"]["messages"] == len(self.submitted))
        return False


async def _loaded(log: JetStreamEventLog, job_id: str) -> Job | None:
    """What the log says once it can: in the middle of an election nobody knows."""
    async with asyncio.timeout(ELECTED):
        while True:
            with suppress(BrokerUnavailableError):
                return await log.load(job_id)


async def _count(broker: Broker, stream: str, subject: str) -> int | None:
    """None while the stream has no leader."""
    try:
        info = await Stream(broker, stream).info({"subjects_filter": subject})
    except BrokerUnavailableError:
        return None
    subjects: dict[str, int] = info["state"].get("subjects") or {}
    assert set(subjects.values()) <= {1}
    return len(subjects)


async def test_appends_go_on_over_the_loss_of_their_leader(cluster: Cluster, broker: Broker) -> None:
    load = Load(broker)
    await load.begin()
    fallen = await cluster.leader(broker, EVENTS)
    await cluster.servers[fallen].kill()
    await load.finish()
    assert await cluster.leader(broker, EVENTS) != fallen
    await load.check()
    await cluster.servers[fallen].start()
    await cluster.whole(broker, EVENTS)
    await load.check()


async def test_a_leader_that_stands_still_is_replaced_and_takes_nothing_back(cluster: Cluster) -> None:
    """Its messages of before, half of them unanswered, come through when it goes on, or never."""
    async with connected_to(cluster) as broker:
        leader = await cluster.leader(broker, EVENTS)
    async with connected_to(cluster, *cluster.others(leader)) as broker:
        load = Load(broker)
        await load.begin()
        with paused(cluster.servers[leader]):
            await load.finish()
            barrier = await Stream(broker, EVENTS).store(barrier_subject(new_id()))
        await cluster.whole(broker, EVENTS, through=barrier)
        await load.check()


@contextmanager
def paused(server: NatsProcess) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


async def test_work_is_filled_soon_after_the_loss_of_both_leaders(cluster: Cluster, broker: Broker) -> None:
    """Left alone, every second time it takes 40 s: the new leader of WORK is there before that of EVENTS."""
    async with meanwhile(Sourcing(broker).run()):
        for _ in range(2):
            while await cluster.leader(broker, WORK) != (fallen := await cluster.leader(broker, EVENTS)):
                await _step_down(broker, WORK)
            await cluster.servers[fallen].kill()
            job_id = await submitted(broker)
            await until(partial(_is_in_work, broker, job_id), seconds=SOURCED_SOON)
            await cluster.servers[fallen].start()
            for stream in (EVENTS, WORK):
                await cluster.whole(broker, stream)


async def submitted(broker: Broker) -> str:
    """The id of a new job, once its submission is acknowledged."""
    log, job_id, fact = JetStreamEventLog(broker), new_id(), events.submitted()
    while (outcome := await log.append(events.TOKEN, job_id, fact)) is Outcome.UNKNOWN:
        pass
    assert outcome is Outcome.WON
    return job_id


async def _step_down(broker: Broker, stream: str) -> None:
    """Ask the stream's leader to step down, if it has one now."""
    with suppress(BrokerUnavailableError):
        await broker.api(f"STREAM.LEADER.STEPDOWN.{stream}")


async def _is_in_work(broker: Broker, job_id: str) -> bool:
    with suppress(BrokerUnavailableError):
        return await JetStreamHistory(broker).is_in_work(Place(events.TOKEN, job_id))
    return False


async def test_the_loss_of_a_follower_is_not_noticed(cluster: Cluster, broker: Broker) -> None:
    """Not even through the very server that is lost: another one takes over the connection."""
    connected = cluster.connected(broker)
    while await cluster.leader(broker, EVENTS) == connected:
        await _step_down(broker, EVENTS)
    load = Load(broker)
    await load.begin()
    await cluster.servers[connected].kill()
    await load.finish()
    assert load.doubtful == []
    assert set(load.killed.values()) == {Outcome.WON}
    await load.check()


# nats-py leaves the connection of an attempt that timed out to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*StreamWriter:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_a_server_that_was_left_behind_never_denies_a_job(cluster: Cluster, broker: Broker, role: str) -> None:
    """Whoever asks it in the moment it goes on gets the job, or hears that nobody knows."""
    leader = await cluster.leader(broker, EVENTS)
    left = leader if role == "leader" else cluster.others(leader)[0]
    others = cluster.others(left)
    async with connected_to(cluster, *others) as ahead, connected_to(cluster, left) as behind:
        with paused(cluster.servers[left]):
            known = [await submitted(ahead) for _ in range(20)]
            denials = [asyncio.create_task(_denied(behind, job_id)) for job_id in known]
            for _ in range(20):  # they are sent, and are the first that it reads
                await asyncio.sleep(0)
        log = JetStreamEventLog(behind)
        assert not any(await asyncio.gather(*denials))
        async with asyncio.timeout(60):
            while True:
                found = await asyncio.gather(*(_sees(log, job_id) for job_id in reversed(known)))
                assert False not in found
                if all(found):
                    break


@pytest.mark.parametrize("stream", [EVENTS, PAYLOADS])
async def test_a_payload_of_a_job_that_can_be_read_can_be_read(cluster: Cluster, broker: Broker, stream: str) -> None:
    """Also by a runner whose server lacks it still: a job whose payload is missing fails for good."""
    left = await cluster.leader(broker, stream)
    async with connected_to(cluster, *cluster.others(left)) as ahead, connected_to(cluster, left) as behind:
        load = Load(ahead)
        with paused(cluster.servers[left]):
            await load.begin()
            await load.finish()
        log, payloads = JetStreamEventLog(behind), JetStreamPayloads(behind)

        async def run(job_id: str) -> bytes:
            await until(lambda: _sees(log, job_id), lambda seen: seen is True, seconds=60)
            assert payloads.may_lag
            return await retry(lambda: payloads.get(events.TOKEN, job_id, 1), on=PayloadMissingError, attempts=READS)

        assert set(await asyncio.gather(*map(run, load.submitted))) == {b"sealed"}


async def test_a_leader_that_hears_nobody_proves_no_absence(cluster: Cluster, broker: Broker) -> None:
    """It goes on to answer for 10 s, in which others may have a leader and take jobs."""
    leader = await cluster.leader(broker, EVENTS)
    async with connected_to(cluster, leader) as alone:
        assert not await current_subjects(Stream(alone, EVENTS), f"ev.{new_id()}.*.submitted")
        await asyncio.gather(*(cluster.servers[name].kill() for name in cluster.others(leader)))
        async with asyncio.timeout(30):
            while True:
                denied = await _denied(alone, job_id := new_id())
                subject = f"ev.{job_id}.*.submitted"
                answer = await alone.api(f"STREAM.MSG.GET.{EVENTS}", {"seq": 1, "next_by_subj": subject})
                assert error_code(answer) == ErrorCode.NO_MESSAGE
                if not denied:
                    break
        with pytest.raises(BrokerUnavailableError):
            await JetStreamEventLog(alone).load(new_id())


async def _denied(broker: Broker, job_id: str) -> bool:
    """Whether the server proves that it is not there."""
    try:
        return not await current_subjects(Stream(broker, EVENTS), f"ev.{job_id}.*.submitted")
    except BrokerUnavailableError:
        return False


async def _sees(log: JetStreamEventLog, job_id: str) -> bool | None:
    """Whether it is there, None if that is not known."""
    try:
        return await log.load(job_id) is not None
    except BrokerUnavailableError:
        return None


async def test_without_a_quorum_the_api_promises_nothing_and_resumes(cluster: Cluster, openbao: OpenBao) -> None:
    async with connected_to(cluster) as broker, api(cluster.url, openbao, STINT_REPLICAS=str(SIZE)) as bench:
        queued, doomed = [await bench.submitted() for _ in range(2)]
        lost = cluster.others(await cluster.leader(broker, EVENTS))
        await asyncio.gather(*(cluster.servers[name].kill() for name in lost))

        requests = [
            bench.http.post("/v1/api/job", json=BODY, timeout=60),
            bench.http.post(f"/v1/api/job/kill/{queued}", timeout=60),
            bench.http.delete(f"/v1/api/job/{doomed}", timeout=60),
        ]
        for answer in await asyncio.gather(*requests):
            assert (answer.status_code, answer.json()["status"]) == (503, "Service Unavailable."), answer.text
            assert answer.json()["error"].endswith(".")
        unproven = await bench.http.get(f"/v1/api/job/{new_id()}", timeout=60)
        assert unproven.status_code == 503, "whoever is left may lack what the others have taken"
        for _ in range(20):
            known = await bench.http.get(f"/v1/api/job/{queued}", timeout=60)
            assert known.status_code in {200, 503}

        await asyncio.gather(*(cluster.servers[name].start() for name in lost))
        await cluster.whole(broker, EVENTS)
        await cluster.whole(broker, WORK)

        async def answered(method: str, path: str, body: object = None) -> httpx.Response:
            """The first answer that is not 503."""
            return await until(
                lambda: bench.http.request(method, path, json=body, timeout=60),
                lambda answer: answer.status_code != 503,
                seconds=60,
            )

        assert (await answered("GET", f"/v1/api/job/{new_id()}")).status_code == 404
        assert (await answered("GET", f"/v1/api/job/{queued}")).status_code == 200
        assert (await answered("POST", "/v1/api/job", BODY)).status_code == 200
        killed = await answered("POST", f"/v1/api/job/kill/{queued}")
        assert killed.status_code in {200, 400}  # 400: the first request came through after all
        assert (await answered("GET", f"/v1/api/job/{queued}")).json()["status"] == "failed"


async def test_runner_and_projector_go_on_when_the_quorum_is_back(
    cluster: Cluster, broker: Broker, openbao: OpenBao, busybox: str, tmp_path: Path
) -> None:
    bench = await make_bench(broker, openbao, busybox, tmp_path)
    async with working(broker), bench.runner(capacity=1):
        running = await bench.running("echo up; sleep 600", queue="first")
        queued = [await bench.submit("true", queue=f"q{number}") for number in range(3)]
        lost = cluster.others(await cluster.leader(broker, EVENTS))
        await asyncio.gather(*(cluster.servers[name].kill() for name in lost))
        # The runner cannot renew.
        await until(lambda: bench.engine().find({LABEL_JOB: running}), lambda found: not found, seconds=120)
        await asyncio.gather(*(cluster.servers[name].start() for name in lost))
        await cluster.whole(broker, EVENTS)
        await cluster.whole(broker, WORK)
        for job_id in queued:
            assert await _ended(bench.log, job_id) is State.SUCCESS
        await until(
            lambda: _views(broker),
            lambda seen: all(b'"success"' in seen.get(job_id, b"") for job_id in queued),
            seconds=120,
        )


async def _views(broker: Broker) -> dict[str, bytes]:
    """All views, none if a read of them was given up: its consumer may not be there yet while servers come back."""
    try:
        return await all_views(broker)
    except BrokerUnavailableError:
        return {}


async def _ended(log: JetStreamEventLog, job_id: str) -> State:
    """The job's state once it has ended, asked for: what is republished while servers come back may not arrive."""
    job = await until(lambda: _loaded(log, job_id), lambda job: job is not None and job.terminal, seconds=120)
    assert job is not None
    return job.state
