"""Which jobs are taken for lost, and when, on the ports in memory."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.core.events import AnyEvent, Ended
from stint.core.job import Job, State, evolve
from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress
from stint.ports import Outcome, Place, Strays
from stint.testing import MemoryEventLog, MemoryHistory, MemoryOutput, MemoryPayloads, MemoryViews
from stint_projector.auditor import Auditor
from stint_projector.project import Projected, Projector
from stint_projector.sweeper import MISSING, SHARE, Sweeper
from tests.support.events import TOKEN, deleted, ended, held, kill_requested, rejected, released, started, submitted
from tests.support.waiting import meanwhile
from tests.unit.test_projector import JOB

OTHER = "f" * 24
ASTRAY_FOR = timedelta(seconds=90)
STEP = 15.0


class Log(MemoryEventLog):
    """Fails for the jobs in `failing` as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: dict[str, Exception] = {}

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
        if error := self.failing.get(job_id):
            raise error
        return await super().load(job_id, at_least=at_least)


class History(MemoryHistory):
    """Looks take `seconds`, and fail while the server is `away`; `still_there` only the leader knows of."""

    def __init__(self, bench: "Bench") -> None:
        super().__init__(bench.log, bench.payloads)
        self._bench = bench
        self.seconds = 0.0
        self.away = False
        self.still_there: set[str] = set()

    async def strays(self) -> Strays | None:
        self._bench.clock += self.seconds
        if self.away:
            raise BrokerUnavailableError
        return await super().strays()

    async def is_in_work(self, place: Place) -> bool:
        return place.job_id in self.still_there or await super().is_in_work(place)


class Bench:
    def __init__(self) -> None:
        self.clock = 1000.0
        self.log = Log()
        self.payloads = MemoryPayloads(now=self.now)
        self.history = History(self)
        self.projector = Projector(
            log=self.log, views=MemoryViews(), payloads=self.payloads, output=MemoryOutput(),
            retention=timedelta(days=1), now=self.now,
        )  # fmt: skip
        self.sweeper = self.another()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock, UTC)

    def another(self) -> Sweeper:
        return Sweeper(self.projector, self.history, ASTRAY_FOR, monotonic=lambda: self.clock)

    async def happen(self, *events: AnyEvent, job_id: str = JOB) -> None:
        """With the payload, which the projector removes at the end."""
        for event in events:
            if event.kind == "submitted":
                await self.payloads.put(TOKEN, job_id, b"sealed")
            assert await self.log.append(TOKEN, job_id, event) is Outcome.WON
            if event.kind in {"ended", "rejected", "deleted"}:
                await self.payloads.purge(TOKEN, job_id)

    async def lose(self, *events: AnyEvent, job_id: str = JOB) -> None:
        await self.happen(submitted(), *events, job_id=job_id)
        self.history.taken.add(job_id)

    async def look(self, seconds: float = ASTRAY_FOR.total_seconds()) -> None:
        """One look now, and one after each step."""
        end = self.clock + seconds
        while True:
            await self.sweeper.sweep()
            if self.clock >= end:
                return
            self.clock += STEP

    async def state(self, job_id: str = JOB) -> State:
        self.log.failing.pop(job_id, None)
        job = await self.log.load(job_id)
        assert job is not None
        return job.state


@pytest.fixture
def bench() -> Bench:
    return Bench()


HISTORIES: list[tuple[AnyEvent, ...]] = [(), (kill_requested(),), (started(),), (started(), kill_requested())]
HISTORIES += [(started(), held()), (started(), held(), released())]


@pytest.mark.parametrize("events", HISTORIES, ids=lambda events: "-".join(event.kind for event in events) or "queued")
async def test_a_missing_job_ends_as_lost(bench: Bench, events: tuple[AnyEvent, ...]) -> None:
    await bench.lose(*events)
    await bench.look(ASTRAY_FOR.total_seconds() - STEP)
    assert (await bench.state()) is not State.UNKNOWN
    bench.clock += STEP
    await bench.sweeper.sweep()
    job = await bench.log.load(JOB)
    assert job is not None
    end = job.fact(Ended)
    assert end is not None
    assert (job.state, end.reason, end.error, end.by) == (State.UNKNOWN, "lost", MISSING, "projector")
    assert end.output_complete is ("started" not in job.facts), "nothing of it is missing if it never ran"
    await bench.look()
    assert await bench.log.load(JOB) == job


ENDS = pytest.mark.parametrize("end", [ended("failed"), rejected(), deleted()], ids=lambda event: event.kind)


@ENDS
async def test_a_queue_is_freed_of_a_job_that_is_over(bench: Bench, end: AnyEvent) -> None:
    await bench.happen(submitted(), end)
    await bench.happen(submitted(), started(), job_id=OTHER)
    await bench.look(ASTRAY_FOR.total_seconds() - STEP)
    assert bench.history.taken == set()
    bench.clock += STEP
    await bench.sweeper.sweep()
    assert bench.history.taken == {JOB}
    assert len(bench.log.records) == 4


async def test_a_job_that_was_missing_before_it_ended_is_given_the_whole_time(bench: Bench) -> None:
    """Its work queue was made anew, and its starter may not know yet that another has ended the job."""
    await bench.lose(started())
    await bench.look(75)
    await bench.happen(ended("unknown"))
    bench.history.taken.clear()
    await bench.look(75)
    assert bench.history.taken == set()
    await bench.look(30)
    assert bench.history.taken == {JOB}


@pytest.mark.parametrize("why", ["it was there once", "nobody looked for long", "another process looks"])
async def test_the_time_begins_anew(bench: Bench, why: str) -> None:
    """A process that was frozen must not take the time that it slept through for an absence it saw."""
    await bench.lose()
    await bench.look(75)
    if why == "it was there once":
        bench.history.taken.clear()
        await bench.look(0)
        bench.history.taken.add(JOB)
    elif why == "nobody looked for long":
        bench.clock += 1000
    else:
        bench.sweeper = bench.another()
    await bench.look(75)
    assert await bench.state() is State.QUEUED
    await bench.look(30)
    assert await bench.state() is State.UNKNOWN


@ENDS
async def test_a_payload_that_outlived_its_job_goes(bench: Bench, end: AnyEvent) -> None:
    await bench.lose(end)
    await bench.payloads.put(TOKEN, JOB, b"sealed")
    await bench.look()
    assert await bench.payloads.places() == set()


async def test_a_payload_whose_job_never_came_goes_after_an_hour(bench: Bench) -> None:
    await bench.payloads.put(TOKEN, JOB, b"sealed")
    await bench.look(3600 - STEP)
    assert await bench.payloads.places() == {Place(TOKEN, JOB)}
    await bench.look()
    assert await bench.payloads.places() == set()


async def test_queues_that_lag_behind_say_nothing(bench: Bench) -> None:
    await bench.lose()
    bench.history.lagging = True
    await bench.look(1000)
    assert await bench.state() is State.QUEUED
    bench.history.lagging = False
    await bench.look(60)
    bench.history.lagging = True
    await bench.look(15)
    bench.history.lagging = False
    bench.clock += STEP
    await bench.look(15)
    assert await bench.state() is State.UNKNOWN, "one look that says nothing does not begin anew"


async def test_the_leader_has_the_last_word(bench: Bench) -> None:
    await bench.lose(started())
    bench.history.still_there.add(JOB)
    await bench.look(1000)
    assert await bench.state() is State.RUNNING
    bench.history.still_there.clear()
    await bench.look(90)
    assert await bench.state() is State.UNKNOWN


async def test_a_job_that_is_started_at_the_last_moment_is_looked_at_again(bench: Bench) -> None:
    await bench.lose()
    loaded = bench.log.load

    async def load(job_id: str, *, at_least: int = 0) -> Job | None:
        job = await loaded(job_id, at_least=at_least)
        await bench.log.append(TOKEN, JOB, started())
        return job

    bench.log.load = load  # type: ignore[method-assign] # one fact comes right behind the look
    await bench.look(90)
    bench.log.load = loaded  # type: ignore[method-assign]
    assert await bench.state() is State.RUNNING
    await bench.look(90)
    assert await bench.state() is State.UNKNOWN


@pytest.mark.parametrize("error", [BrokerRefusedError("no"), RuntimeError("no"), BrokerUnavailableError()])
async def test_one_jobs_fault_does_not_stop_the_others(bench: Bench, error: Exception) -> None:
    for job_id in (JOB, OTHER, "e" * 24):
        await bench.lose(job_id=job_id)
        bench.log.failing[job_id] = error
    del bench.log.failing[OTHER]
    await bench.look(75)
    for _ in range(3):
        bench.clock += STEP
        try:
            await bench.sweeper.sweep()
        except BrokerUnavailableError:
            assert isinstance(error, BrokerUnavailableError)
    assert await bench.state(OTHER) is State.UNKNOWN
    assert await bench.state() is State.QUEUED
    bench.log.failing.clear()
    await bench.look(120)
    assert await bench.state() is State.UNKNOWN


async def test_a_job_that_runs_is_left_alone_and_what_names_no_job_does_no_harm(bench: Bench) -> None:
    """A second submission in another queue, and subjects that are none."""
    other = queue_token("other")
    bench.log.put(EventAddress("submitted", TOKEN, JOB), b"{}")
    bench.log.put(EventAddress("submitted", other, JOB), b"{}")
    bench.log.put(EventAddress("submitted", "MF", "junk"), b"{}")
    await bench.happen(started(), ended())
    bench.history.taken |= {JOB, "junk"}
    await bench.happen(submitted(), started(), job_id=OTHER)  # it runs
    facts = len(bench.log.records)
    await bench.look(1000)
    assert len(bench.log.records) == facts


async def test_a_long_look_is_taken_less_often(bench: Bench) -> None:
    await bench.sweeper.sweep()
    assert bench.sweeper.pause == 15
    bench.history.seconds = 3.0
    await bench.sweeper.sweep()
    assert bench.sweeper.pause == 3.0 * SHARE
    await bench.lose()
    for _ in range(4):
        bench.clock += 60
        await bench.sweeper.sweep()
    assert await bench.state() is State.UNKNOWN


async def test_it_goes_on_through_outages_at_most_once_a_second(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    enough = asyncio.Event()
    bench.history.away = True

    async def sleep(seconds: float) -> None:
        bench.clock += seconds
        looks.append(seconds)
        if len(looks) > 100:
            bench.history.away = False
        if len(looks) > 200:
            enough.set()
            await asyncio.Event().wait()

    await bench.lose()
    short = Sweeper(bench.projector, bench.history, timedelta(seconds=2), monotonic=lambda: bench.clock)
    monkeypatch.setattr("stint.process.waiting.asyncio.sleep", sleep)
    async with meanwhile(short.run()):
        await enough.wait()
    assert min(looks) >= 1
    assert await bench.state() is State.UNKNOWN


async def test_a_missing_job_without_a_payload_is_ended_once_the_auditor_has_named_it(bench: Bench) -> None:
    await bench.lose()
    await bench.payloads.purge(TOKEN, JOB)
    await bench.look()
    assert (await bench.state()) is State.QUEUED, "a sweep compares payloads"
    auditor = Auditor(bench.projector, bench.history, bench.sweeper.suspect)
    await bench.projector.project(JOB)
    await auditor.sweep()
    await bench.look()
    assert (await bench.state()) is State.UNKNOWN
    assert not bench.sweeper._suspects  # noqa: SLF001 - what is kept for ever is inside


async def test_a_waiting_job_without_a_payload_that_is_in_its_queue_stays(bench: Bench) -> None:
    await bench.happen(submitted())
    await bench.payloads.purge(TOKEN, JOB)
    bench.sweeper.suspect(Place(TOKEN, JOB))
    await bench.look()
    assert (await bench.state()) is State.QUEUED
    assert bench.history.taken == set()


async def test_a_job_that_is_over_does_not_stay_in_the_list_of_another_queue(bench: Bench) -> None:
    """Somebody has submitted its id there again, once its view had left no trace any more."""
    other = queue_token("other")
    await bench.happen(submitted(), deleted())
    assert await bench.log.append(other, JOB, submitted("other")) is Outcome.WON
    ghost = evolve(None, bench.log.records[-1])
    assert ghost is not None
    assert await bench.projector.project_all([Projected(ghost, 0)])
    await Auditor(bench.projector, bench.history, bench.sweeper.suspect).sweep()
    await bench.look()
    stored = await bench.projector.views.get(JOB)
    assert stored is not None
    assert stored.value is None
