"""What is removed when, on the ports in memory."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.core.events import AnyEvent
from stint.core.job import TERMINAL
from stint.core.names.ids import queue_token
from stint.ports import Place, StoredView
from stint.testing import MemoryEventLog, MemoryHistory, MemoryOutput
from stint_projector.auditor import Auditor
from stint_projector.janitor import SWEEP_INTERVAL, TICK, EventJanitor, Janitor, interval
from stint_projector.rebuild import rebuild
from tests.support.events import TOKEN, deleted, ended, kill_requested, rejected, started, submitted
from tests.support.faults import failing
from tests.support.outputs import places_of
from tests.support.waiting import meanwhile
from tests.unit.test_projector import JOB, Bench

OTHER = "f" * 24
OTHER_QUEUE = queue_token("other")
RETENTION = timedelta(hours=6)
KEEP = timedelta(days=30)
MOMENT = timedelta(seconds=1)


class House(Bench):
    """A projector, and those who clean up after it."""

    def __init__(self) -> None:
        super().__init__()
        self.history = MemoryHistory(self.log, self.payloads)
        self.suspects: list[Place] = []
        self.restart()

    def restart(self) -> None:
        """Another process, that knows nothing."""
        self.janitor = Janitor(self.projector, self.history)
        self.auditor = Auditor(self.projector, self.history, self.suspects.append)
        self.events = EventJanitor(self.projector, self.history, KEEP)

    async def store(self, job_id: str = JOB, token: str = TOKEN) -> None:
        await self.payloads.put(token, job_id, b"sealed")
        await self.print(job_id, token)

    async def left(self, job_id: str = JOB, token: str = TOKEN) -> str:
        """Letters for what there is: View, Output, Payload, Facts."""
        place = Place(token, job_id)
        there = {
            "V": await self.value(job_id) is not None,
            "O": place in await places_of(self.output),
            "P": place in await self.payloads.places(),
            "F": any(record.job_id == job_id for record in self.log.records),
        }
        return "".join(letter for letter, present in there.items() if present)


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("restarted", [False, True])
async def test_output_goes_when_the_view_does(house: House, restarted: bool) -> None:
    """Also what another projector saw the end of."""
    await house.store()
    await house.happen(submitted(), started(), ended())
    house.now += RETENTION - MOMENT
    if restarted:
        house.restart()
        await house.auditor.sweep()
    for left in ("VOF", "F"):
        await house.janitor.expire()
        assert await house.left() == left
        house.now += MOMENT


async def test_a_payload_that_outlived_its_job_goes_and_output_stays(house: House) -> None:
    await house.print()
    await house.happen(submitted(), started(), ended())
    await house.payloads.put(TOKEN, JOB, b"sealed")
    await house.auditor.sweep()
    assert await house.left() == "VOF"


@pytest.mark.parametrize("why", ["deleted", "expired", "forgotten"])
async def test_a_view_that_came_back_goes_again(house: House, why: str) -> None:
    await house.happen(submitted(), started())
    old = await house.value()
    await house.happen(ended())
    if why == "deleted":
        await house.happen(deleted())
    else:
        house.now += RETENTION if why == "expired" else KEEP + MOMENT
        await house.janitor.expire()
        house.history.taken.add(JOB)
        await house.events.forget()
    house.restart()
    gone = await house.views.get(JOB)
    assert old is not None
    assert gone is not None
    assert await house.views.put(JOB, old, revision=gone.revision, ttl=None)
    await house.auditor.sweep()
    assert await house.left() == ("" if why == "forgotten" else "F")


async def test_a_view_whose_key_is_no_jobs_id_goes(house: House) -> None:
    for key in ("no-job", JOB.upper()):
        await house.store_view(key, b"{}")
        await house.auditor.sweep()
        assert await house.value(key) is None


class Watched(MemoryOutput):
    """Tells when a job's output is removed."""

    def __init__(self) -> None:
        super().__init__()
        self.purged: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def purge(self, token: str, job_id: str) -> None:
        await super().purge(token, job_id)
        self.purged[job_id].set()


async def test_a_failure_ends_neither_of_them(
    house: House, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("janitor", "auditor"):
        monkeypatch.setattr(f"stint_projector.{module}.RETRY_PAUSE", MOMENT / 100)
    monkeypatch.setattr("stint_projector.janitor.TICK", MOMENT / 100)
    for name, sentence in (("facts", "no such stream"), ("survey", "no such log")):
        monkeypatch.setattr(house.history, name, failing(getattr(house.history, name), BrokerRefusedError(sentence)))
    house.output = house.projector.output = output = Watched()
    for job_id in (JOB, OTHER):
        await house.print(job_id)
    await house.happen(submitted(), started(), ended())
    house.restart()
    house.now += RETENTION
    async with asyncio.timeout(10), meanwhile(house.janitor.run(), house.auditor.run()):
        for job_id in (JOB, OTHER):
            await output.purged[job_id].wait()
    said = capsys.readouterr().out
    assert ("no such stream" in said, "no such log" in said) == (True, True)


async def test_an_audit_of_nothing_rests(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stint_projector.auditor.ROUND", 0.01)
    asked: list[float] = []
    looked_again = asyncio.Event()

    async def nothing(*, after: int = 0) -> list[StoredView]:
        assert (after, len(asked) < 10) == (0, True), "an audit asks without a pause"
        asked.append(asyncio.get_running_loop().time())
        if len(asked) == 4:
            looked_again.set()
        return []

    monkeypatch.setattr(house.projector.views, "page", nothing)
    async with meanwhile(house.auditor.run()):
        await looked_again.wait()
    assert asked[3] - asked[1] >= 0.02


async def test_each_end_is_looked_at_once_when_it_is_due(house: House) -> None:
    begin = house.now
    for number in range(10):
        await house.happen(submitted(), ended("failed") if number % 2 else rejected(), job_id=f"{number:024x}")
        house.now += MOMENT
    loaded = house.noting_loads()
    for number in range(10):
        due = begin + RETENTION + number * MOMENT
        house.now = due - MOMENT / 2
        await house.janitor.expire()
        assert [job_id for job_id, _ in loaded] == [f"{count:024x}" for count in range(number)]
        assert house.janitor.next_at == due
    house.now += MOMENT
    await house.janitor.expire()
    assert len(loaded) == 10
    assert house.janitor.next_at == house.now + SWEEP_INTERVAL


@pytest.mark.parametrize("more", [0, 3])
async def test_in_a_log_that_was_lost_and_made_anew_jobs_expire_too(house: House, more: int) -> None:
    """Whether or not it is as long as before by then."""
    for number in range(3):
        await house.happen(submitted(), started(), ended(), job_id=f"{number:024x}")
    house.now += RETENTION
    await house.janitor.expire()
    vars(house.log).update(vars(MemoryEventLog(now=lambda: house.now)))
    for job_id in (OTHER, *(f"{number:024x}" for number in range(10, 10 + more))):
        await house.store(job_id)
        await house.happen(submitted(), started(), ended(), job_id=job_id)
    house.now += SWEEP_INTERVAL
    await house.janitor.expire()
    house.now += RETENTION
    await house.janitor.expire()
    assert await house.left(OTHER) == "F"


async def test_after_an_end_whose_time_was_ahead_each_job_expires_in_its_turn(house: House) -> None:
    """As after somebody has set the clock of NATS forwards, and back."""
    for job_id in (JOB, OTHER):
        await house.store(job_id)
        await house.happen(submitted(), started(), job_id=job_id)
    await house.janitor.expire()
    house.now += timedelta(hours=1)
    await house.happen(ended())
    house.now -= timedelta(hours=1)
    await house.happen(ended(), job_id=OTHER)
    house.now += RETENTION
    await house.janitor.expire()
    assert await house.left() == "VOF"
    house.now += timedelta(hours=1)
    await house.janitor.expire()
    assert (await house.left(), await house.left(OTHER)) == ("F", "F")


async def test_a_payload_whose_job_never_came_goes_an_hour_after_its_last_chunk(house: House) -> None:
    """Until then it may be waiting for its job."""
    await house.payloads.put(TOKEN, JOB, b"sealed", attempt="a-")
    house.now += timedelta(minutes=50)
    await house.payloads.put(TOKEN, JOB, b"sealed", attempt="b-")
    house.now += timedelta(minutes=59)
    await house.auditor.sweep()
    assert await house.payloads.get(TOKEN, JOB, 1, attempt="a-") == b"sealed"
    house.now += timedelta(minutes=1)
    await house.auditor.sweep()
    assert await house.left() == ""


async def test_what_is_written_after_the_purge_goes_with_the_next_sweep(house: House) -> None:
    """A runner that was lost, and does not know it."""
    await house.happen(submitted(), started(), ended("unknown", "lost"), deleted())
    await house.store()
    await house.auditor.sweep()
    assert await house.left() == "F"
    house.history.taken.add(JOB)
    house.now += KEEP + MOMENT
    await house.events.forget()
    await house.print()
    await house.auditor.sweep()
    assert await house.left() == ""


async def test_what_stands_in_another_queue_than_the_job_is_nobodys(house: House) -> None:
    await house.store()
    await house.happen(submitted(), started())
    await house.store(token=OTHER_QUEUE)
    house.now += timedelta(hours=1)
    await house.auditor.sweep()
    assert await house.left(token=OTHER_QUEUE) == "VF"
    assert await house.left() == "VOPF"


async def test_facts_stay_while_the_job_is_in_work_and_a_late_one_goes_in_its_turn(
    house: House,
) -> None:
    await house.happen(submitted(), ended("failed"))
    house.now += 2 * KEEP
    await house.events.forget()
    assert "F" in await house.left()
    house.history.taken.add(JOB)
    await house.events.forget()
    assert await house.left() == ""
    await house.happen(kill_requested())
    await house.events.forget()
    assert await house.left() == "F"
    house.now += KEEP + MOMENT
    await house.events.forget()
    assert await house.left() == ""


async def test_what_names_no_job_is_forgotten_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()

    async def noted(before: Any) -> None:
        asked.append(before)

    monkeypatch.setattr(house.history, "forget_unnamed", noted)
    await house.events.forget()
    assert asked == [house.now - KEEP]


async def test_one_job_that_cannot_be_cleaned_up_does_not_keep_the_others(house: House) -> None:
    class Stubborn(MemoryOutput):
        async def purge(self, token: str, job_id: str) -> None:
            if job_id == JOB:
                raise BrokerRefusedError
            await super().purge(token, job_id)

    house.output = house.projector.output = Stubborn()
    house.restart()
    for job_id in (JOB, OTHER):
        await house.store(job_id)
        await house.happen(submitted(), ended("failed"), job_id=job_id)
        house.history.taken.add(job_id)
    house.now += KEEP + MOMENT
    await house.janitor.expire()
    assert (await house.left(), await house.left(OTHER)) == ("VOF", "F")
    await house.events.forget()
    assert (await house.left(), await house.left(OTHER)) == ("VOF", "")


async def test_what_an_outage_interrupts_is_found_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.output, "purge", failing(house.output.purge, BrokerUnavailableError()))
    await house.store()
    await house.happen(submitted(), ended("failed"))
    house.now += RETENTION
    with pytest.raises(BrokerUnavailableError):
        await house.janitor.expire()
    await house.janitor.expire()
    assert await house.left() == "F"


JOBS = [f"{number:024x}" for number in range(6)]


async def restart(house: House) -> None:
    house.restart()


async def take(house: House) -> None:
    house.history.taken.update(JOBS)


Step = tuple[str, Callable[[], AnyEvent] | None, timedelta, Callable[[House], Awaitable[object]]]
FACTS: list[Callable[[], AnyEvent] | None] = [None, started, ended, deleted, kill_requested, rejected]
DEEDS: list[Callable[[House], Awaitable[object]]] = [
    lambda _: asyncio.sleep(0),
    lambda house: house.auditor.sweep(),
    lambda house: house.janitor.expire(),
    lambda house: house.events.forget(),
    restart,
    take,
    lambda house: rebuild(house.projector),
]


PAUSES = st.sampled_from([timedelta(0), timedelta(minutes=30), RETENTION, KEEP])
STEPS = st.tuples(st.sampled_from(JOBS), st.sampled_from(FACTS), PAUSES, st.sampled_from(DEEDS))


@given(st.lists(STEPS, max_size=40))
async def test_nothing_goes_early_and_nothing_stays(steps: list[Step]) -> None:
    house = House()
    for job_id in JOBS:
        await house.store(job_id)
        await house.happen(submitted(), job_id=job_id)
    for job_id, fact, pause, deed in steps:
        if fact is not None and await house.log.load(job_id) is not None:
            await house.log.append(TOKEN, job_id, fact())
            await house.projector.project(job_id)
        house.now += pause
        await deed(house)
        await check(house)
    await take(house)
    house.now += KEEP + MOMENT
    await house.auditor.sweep()
    await house.events.forget()
    await rebuild(house.projector)
    for job_id in JOBS:
        job = await house.log.load(job_id)
        assert await house.left(job_id) == ("" if job is None else "VOPF"), "all of it or nothing"
        assert job is None or job.state not in TERMINAL


async def check(house: House) -> None:
    """A job that goes on has everything, one that can be read has its view and its output."""
    for job_id in JOBS:
        job = await house.log.load(job_id)
        if job is not None and job.state not in TERMINAL:
            assert await house.left(job_id) == "VOPF"
            assert await house.value(job_id) == await house.expected(job_id)
        elif job is not None and not house.projector._is_over(job):  # noqa: SLF001 - the one who knows
            assert await house.left(job_id) == "VOF"
            assert await house.value(job_id) == await house.expected(job_id)


def test_nothing_is_looked_for_more_often_than_once_a_second() -> None:
    assert interval(timedelta(milliseconds=1), 10) == TICK
    assert interval(timedelta(minutes=1), 10) == timedelta(seconds=6)
    assert interval(KEEP, 100) == SWEEP_INTERVAL
