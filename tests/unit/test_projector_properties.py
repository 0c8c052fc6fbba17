"""Whatever the feed does, the view is the fold of the log, and a rebuild gives the same bytes."""

import asyncio
import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from stint.core.codec import encode
from stint.core.events import AnyEvent, Submitted
from stint.core.job import Job, State, fold
from stint.core.subjects import EventAddress, queue_token
from stint.core.view import view
from stint.ports import StoredView
from stint.testing import MemoryEventLog, MemoryViews
from stint_projector.project import Projector
from stint_projector.rebuild import rebuild
from tests.support.events import (
    TOKEN,
    deleted,
    ended,
    held,
    kill_requested,
    launched,
    rejected,
    released,
    started,
    submitted,
)
from tests.unit.test_projector import Bench

JOBS = [f"{number:024x}" for number in range(2)]
OTHER_QUEUE = queue_token("other")
MAKERS: list[Callable[[], AnyEvent]] = [
    *[submitted] * 4,
    started,
    launched,
    kill_requested,
    held,
    released,
    ended,
    lambda: ended("unknown", "lost"),
    rejected,
    deleted,
]


@st.composite
def messages(draw: st.DrawFn) -> tuple[EventAddress, bytes]:
    """What may stand in the log: facts, as they are, with fields of a newer version, unreadable, or of a newer kind."""
    event = draw(st.sampled_from(MAKERS))()
    kind = draw(st.sampled_from([event.kind] * 5 + ["future"]))
    body = encode(event)
    shape = draw(st.sampled_from(["plain", "plain", "plain", "newer", "junk"]))
    if shape == "newer":
        body = json.dumps({**json.loads(body), "from_a_newer_version": [1]}).encode()
    token = draw(st.sampled_from([TOKEN] * 5 + [OTHER_QUEUE]))
    return EventAddress(kind, token, draw(st.sampled_from(JOBS))), b"\xff" if shape == "junk" else body


class Yielding:
    """Lets other tasks go first, now more and now less often."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - the same each time

    async def __call__(self) -> None:
        for _ in range(self._dice.choice((0, 1, 4, 16))):
            await asyncio.sleep(0)


class Log(MemoryEventLog):
    """What was loaded can be old by the time it is used."""

    step: Yielding

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
        job = await super().load(job_id, at_least=at_least)
        await self.step()
        return job


class Views(MemoryViews):
    """Others can write between a read and a write."""

    step: Yielding

    async def get(self, job_id: str) -> StoredView | None:
        stored = await super().get(job_id)
        await self.step()
        return stored

    async def put(self, job_id: str, value: bytes, **options: Any) -> bool:
        await self.step()
        return await super().put(job_id, value, **options)


class House(Bench):
    """Two projectors on one log and one view."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.log, self.views = Log(now=lambda: self.now), Views()
        self.log.step = self.views.step = Yielding(seed)
        self.projectors = [self._projector() for _ in range(2)]

    def _projector(self) -> Projector:
        return Projector(
            log=self.log,
            views=self.views,
            payloads=self.payloads,
            output=self.output,
            agenda=self.agenda,
            retention=timedelta(hours=6),
            now=lambda: self.now,
        )

    async def deliver(self, sequence: int, which: int, delay: int) -> None:
        """As a follower does."""
        for _ in range(delay):
            await asyncio.sleep(0)
        for record in self.log.records:
            if record.sequence == sequence:
                create = record.kind == Submitted.kind
                await self.projectors[which].project(record.job_id, create=create, at_least=sequence)
                return

    async def shown(self) -> dict[str, bytes]:
        found = {job_id: await self.value(job_id) for job_id in JOBS}
        return {job_id: value for job_id, value in found.items() if value is not None}

    def folded(self) -> dict[str, bytes]:
        jobs = [fold(record for record in self.log.records if record.job_id == job_id) for job_id in JOBS]
        return {job.job_id: encode(view(job)) for job in jobs if job is not None and job.state is not State.DELETED}


class Happening(NamedTuple):
    """A message, and when it comes to whom: once or twice, after so many steps each time."""

    address: EventAddress
    body: bytes
    lost: bool
    deliveries: list[tuple[int, int]]
    gap: int


HAPPENINGS = st.builds(
    lambda message, **rest: Happening(*message, **rest),
    messages(),
    lost=st.sampled_from([False] * 9 + [True]),
    deliveries=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=2),
    gap=st.integers(0, 3),
)


@settings(max_examples=500)
@given(
    happenings=st.lists(HAPPENINGS, max_size=25, unique_by=lambda happening: happening.address),
    seed=st.integers(0, 1000),
)
async def test_replays_gaps_races_and_unknown_facts_leave_the_view_right(
    happenings: list[Happening], seed: int
) -> None:
    """Some facts are gone before anybody saw them; the others come at least once, in any order, to either projector."""
    house = House(seed)
    async with asyncio.TaskGroup() as group:
        for sequence, happening in enumerate(happenings, start=1):
            house.log.put(happening.address, happening.body)
            if happening.lost:
                house.log.records.pop()
            for delay, which in happening.deliveries:
                group.create_task(house.deliver(sequence, which, delay))
            for _ in range(happening.gap):
                await asyncio.sleep(0)
    wanted = house.folded()
    assert await house.shown() == wanted
    await rebuild(house.log, house.views, house.projectors[0])
    assert await house.shown() == wanted
