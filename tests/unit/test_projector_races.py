"""What a projector makes of a log that moves while it looks, or lags behind."""

from stint.core.codec import encode
from stint.core.events import AnyEvent
from stint.core.job import Job, fold
from stint.core.view import view
from stint.testing import MemoryEventLog
from tests.support.events import TOKEN, ended, started, submitted
from tests.unit.test_projector import JOB, Bench


class Moving(MemoryEventLog):
    """Has one more fact right after it was read for the first time."""

    def __init__(self, *later: AnyEvent) -> None:
        super().__init__()
        self.later = list(later)

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
        job = await super().load(job_id, at_least=at_least)
        if self.later:
            await self.append(TOKEN, job_id, self.later.pop(0))
        return job


async def test_a_fact_that_comes_while_the_view_is_being_made_is_in_it() -> None:
    """Its own projection has found no view, and as it is no submission it has made none."""
    bench = Bench()
    log = Moving(started(), ended())
    bench.projector._log = log  # noqa: SLF001 - the one part that differs
    await log.append(TOKEN, JOB, submitted())
    await bench.projector.project(JOB, create=True)
    await bench.projector.project(JOB, create=False)
    job = fold(log.records)
    assert job is not None
    assert await bench.value() == encode(view(job))


async def test_an_aggregate_older_than_the_event_is_not_believed() -> None:
    asked: list[int] = []

    class Lagging(MemoryEventLog):
        async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
            asked.append(at_least)
            return await super().load(job_id, at_least=at_least)

    bench = Bench()
    bench.projector._log = log = Lagging()  # noqa: SLF001 - the one part that differs
    await log.append(TOKEN, JOB, submitted())
    await bench.projector.project(JOB, create=True, at_least=1)
    assert set(asked) == {1}
