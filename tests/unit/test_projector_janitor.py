"""What is removed when, on the ports in memory."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.core.events import AnyEvent
from stint.core.job import TERMINAL
from stint.core.subjects import EventAddress, queue_token
from stint.ports import Place
from stint.testing import MemoryHistory, MemoryOutput
from stint_projector.agenda import Agenda
from stint_projector.janitor import SWEEP_INTERVAL, TICK, EventJanitor, Janitor, interval
from stint_projector.rebuild import rebuild
from tests.support.events import TOKEN, deleted, ended, kill_requested, rejected, started, submitted
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
        self.history = MemoryHistory(self.log)
        self.restart()

    def restart(self) -> None:
        """Another process, that knows nothing."""
        self.agenda = self.projector.agenda = Agenda(now=lambda: self.now)
        self.janitor = Janitor(self.projector, self.history)
        self.events = EventJanitor(self.projector, self.history, KEEP)

    async def store(self, job_id: str = JOB, token: str = TOKEN) -> None:
        await self.payloads.put(token, job_id, b"sealed")
        await self.print(job_id, token)

    async def left(self, job_id: str = JOB, token: str = TOKEN) -> str:
        """Letters for what there is: View, Output, Payload, Facts."""
        place = Place(token, job_id)
        there = {
            "V": await self.value(job_id) is not None,
            "O": place in await self.output.places(),
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
    if restarted:
        house.restart()
        await house.janitor.sweep()
    for pause, left in ((timedelta(0), "VOF"), (RETENTION - MOMENT, "VOF"), (MOMENT, "F")):
        house.now += pause
        await house.janitor.expire()
        assert await house.left() == left


async def test_what_expired_while_nobody_was_there_is_found(house: House) -> None:
    await house.store()
    for event in (submitted(), started(), ended()):
        await house.log.append(TOKEN, JOB, event)
    house.now += RETENTION
    await house.janitor.sweep()
    assert await house.left() == "F"


async def test_a_payload_that_outlived_its_job_goes_and_output_stays(house: House) -> None:
    await house.print()
    await house.happen(submitted(), started(), ended())
    await house.payloads.put(TOKEN, JOB, b"sealed")
    await house.janitor.sweep()
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
    await house.janitor.sweep()
    assert await house.left() == ("" if why == "forgotten" else "F")


async def test_what_is_on_the_agenda_is_not_asked_for_again(house: House) -> None:
    asked: list[Place] = []

    class Counting(MemoryHistory):
        async def survey(self, places: Iterable[Place]) -> Mapping[Place, str]:
            asked.extend(places)
            return await super().survey(places)

    house.history = Counting(house.log)
    house.restart()
    await house.print()
    await house.print(OTHER)
    await house.happen(submitted(), started(), ended())
    await house.happen(submitted(), started(), job_id=OTHER)
    house.restart()
    for _ in range(2):
        await house.janitor.sweep()
    assert sorted(place.job_id for place in asked) == sorted([JOB, OTHER, OTHER])


async def test_a_sweep_that_fails_does_not_end_the_janitor(
    house: House, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(MemoryOutput):
        def __init__(self) -> None:
            super().__init__()
            self.purged = asyncio.Event()

        async def places(self) -> set[Place]:
            raise BrokerRefusedError("no such stream")

        async def purge(self, token: str, job_id: str) -> None:
            await super().purge(token, job_id)
            self.purged.set()

    monkeypatch.setattr("stint_projector.janitor.TICK", MOMENT / 100)
    start = house.now = datetime.now(UTC)
    house.output = house.projector.output = output = Refusing()
    agenda = house.projector.agenda = Agenda()
    house.projector.now = lambda: datetime.now(UTC) + (house.now - start)
    await house.print()
    await house.happen(submitted(), started(), ended())
    running = asyncio.create_task(house.janitor.run())
    house.now += RETENTION
    async with asyncio.timeout(10):
        agenda.put(Place(TOKEN, JOB), datetime.now(UTC) + timedelta(milliseconds=10))
        await output.purged.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "no such stream" in capsys.readouterr().out


async def test_a_payload_whose_job_never_came_goes_an_hour_after_its_last_chunk(house: House) -> None:
    """Until then it may be waiting for its job."""
    await house.payloads.put(TOKEN, JOB, b"sealed", attempt="a-")
    house.now += timedelta(minutes=50)
    await house.payloads.put(TOKEN, JOB, b"sealed", attempt="b-")
    house.now += timedelta(minutes=59)
    await house.janitor.sweep()
    assert await house.payloads.get(TOKEN, JOB, 1, attempt="a-") == b"sealed"
    house.now += timedelta(minutes=1)
    await house.janitor.sweep()
    assert await house.left() == ""


async def test_what_is_written_after_the_purge_goes_with_the_next_sweep(house: House) -> None:
    """A runner that was lost, and does not know it."""
    await house.happen(submitted(), started(), ended("unknown", "lost"), deleted())
    await house.store()
    await house.janitor.sweep()
    assert await house.left() == "F"
    house.history.taken.add(JOB)
    house.now += KEEP + MOMENT
    await house.events.forget()
    await house.print()
    await house.janitor.sweep()
    assert await house.left() == ""


async def test_what_stands_in_another_queue_than_the_job_is_nobodys(house: House) -> None:
    await house.store()
    await house.happen(submitted(), started())
    await house.store(token=OTHER_QUEUE)
    house.now += timedelta(hours=1)
    await house.janitor.sweep()
    assert await house.left(token=OTHER_QUEUE) == "VF"
    assert await house.left() == "VOPF"


async def test_facts_are_forgotten_when_all_of_them_are_old(house: House) -> None:
    await house.happen(submitted(), started(), ended())
    house.history.taken.add(JOB)
    house.now += timedelta(hours=1)
    await house.happen(deleted())
    house.now += KEEP
    await house.events.forget()
    assert await house.left() == "F"
    house.now += MOMENT
    await house.events.forget()
    assert await house.left() == ""


async def test_facts_stay_while_the_job_is_in_work_and_a_late_one_revives_nothing_and_goes_in_its_turn(
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


async def test_what_names_no_job_is_forgotten_too(house: House) -> None:
    await house.log.record_rejection(7, rejected())
    house.log.put(EventAddress("submitted", "MF", "junk"), b"\xff")
    house.history.taken.add("junk")
    house.now += KEEP + MOMENT
    await house.events.forget()
    assert house.log.records == []


async def test_before_the_facts_go_all_else_has_gone(house: House) -> None:
    """A projector that was away for longer than facts are kept must not leave a view that nobody knows how to end."""
    await house.store()
    await house.happen(submitted(), started())
    await house.log.append(TOKEN, JOB, ended())
    house.history.taken.add(JOB)
    house.now += KEEP + MOMENT
    await house.events.forget()
    assert await house.left() == ""


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
    assert (await house.left(), await house.left(OTHER)) == ("OF", "F")
    await house.events.forget()
    assert (await house.left(), await house.left(OTHER)) == ("OF", "")


async def test_what_an_outage_interrupts_is_found_again(house: House) -> None:
    class Away(MemoryOutput):
        away = True

        async def purge(self, token: str, job_id: str) -> None:
            if self.away:
                raise BrokerUnavailableError
            await super().purge(token, job_id)

    house.output = house.projector.output = output = Away()
    house.restart()
    await house.store()
    await house.happen(submitted(), ended("failed"))
    house.now += RETENTION
    with pytest.raises(BrokerUnavailableError):
        await house.janitor.expire()
    output.away = False
    await house.janitor.expire()
    assert "O" in await house.left(), "it is on no agenda any more"
    await house.janitor.sweep()
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
    lambda house: house.janitor.sweep(),
    lambda house: house.janitor.expire(),
    lambda house: house.events.forget(),
    restart,
    take,
    lambda house: rebuild(house.projector),
]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(JOBS),
            st.sampled_from(FACTS),
            st.sampled_from([timedelta(0), timedelta(minutes=30), RETENTION, KEEP]),
            st.sampled_from(DEEDS),
        ),
        max_size=40,
    )
)
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
    await house.janitor.sweep()
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


# --- the agenda ---------------------------------------------------------------------------------------------------


def test_the_agenda_gives_what_is_due_in_order_and_once() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    agenda = Agenda(now=lambda: now)
    for number, hours in enumerate([3, 1, 2, 0]):
        agenda.put(Place(TOKEN, JOBS[number]), now + timedelta(hours=hours))
    agenda.put(Place(TOKEN, JOBS[3]), now + timedelta(hours=4))
    agenda.put(Place(TOKEN, JOBS[3]), now + timedelta(hours=4))
    assert Place(TOKEN, JOBS[3]) in agenda
    now += timedelta(hours=3)
    assert [place.job_id for place in agenda.take_due()] == [JOBS[1], JOBS[2], JOBS[0]]
    assert agenda.take_due() == []
    assert Place(TOKEN, JOBS[0]) not in agenda
    now += timedelta(hours=1)
    assert [place.job_id for place in agenda.take_due()] == [JOBS[3]]


async def test_who_waits_for_the_agenda_hears_of_an_earlier_moment_and_waits_no_longer_than_told() -> None:
    agenda = Agenda()
    agenda.put(Place(TOKEN, JOB), datetime.now(UTC) + timedelta(hours=1))
    waiting = asyncio.create_task(agenda.wait(datetime.now(UTC) + timedelta(hours=2)))
    await asyncio.sleep(0)
    agenda.put(Place(TOKEN, OTHER), datetime.now(UTC) + timedelta(milliseconds=10))
    async with asyncio.timeout(5):
        await waiting
        await Agenda().wait(datetime.now(UTC) + timedelta(milliseconds=10))
        await Agenda().wait(datetime.now(UTC) - timedelta(hours=1))
    assert agenda.take_due() == [Place(TOKEN, OTHER)]


def test_nothing_is_looked_for_more_often_than_once_a_second() -> None:
    assert interval(timedelta(milliseconds=1), 10) == TICK
    assert interval(timedelta(minutes=1), 10) == timedelta(seconds=6)
    assert interval(KEEP, 100) == SWEEP_INTERVAL
