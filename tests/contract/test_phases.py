"""What is done for each job now reaches whoever listens."""

from stint.core.phase import JobPhase
from stint.ports import PhaseReport, Place
from tests.contract.conftest import Ports

PLACE = Place("q", "a" * 24)


async def test_a_report_reaches_each_who_listens_and_nobody_else(ports: Ports) -> None:
    first, last = (JobPhase(phase="pulling", progress=done) for done in (0.5, 1.0))
    await ports.phases.tell(PLACE, JobPhase(phase="opening"))
    async with ports.phases.hear() as one:
        async with ports.phases.hear() as other:
            await ports.phases.tell(PLACE, first)
            assert [await anext(one), await anext(other)] == [PhaseReport(PLACE, first)] * 2
        await ports.phases.tell(PLACE, last)
        assert await anext(one) == PhaseReport(PLACE, last)
