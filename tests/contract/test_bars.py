"""What `stint.ports.EventLog.bar` promises."""

import asyncio

from stint.core.job import State
from stint.ports import Outcome
from tests.contract.conftest import Ports
from tests.support.events import TOKEN, started, submitted

JOB = "0123456789abcdef01234567"


async def test_who_has_not_seen_a_bar_loses_and_who_has_wins(ports: Ports) -> None:
    await ports.must_append(TOKEN, JOB, submitted())
    before = await ports.job(JOB)
    for _ in range(3):  # as often as its queue is paused
        seen = await ports.job(JOB)
        assert await ports.log.bar(TOKEN, JOB, after=seen.sequence)
    assert not await ports.log.bar(TOKEN, JOB, after=before.sequence), "it has changed"
    assert await ports.log.append(TOKEN, JOB, started(), after=before.sequence) is Outcome.LOST
    after = await ports.job(JOB)
    assert (after.state, after.facts) == (State.QUEUED, before.facts), "it says nothing of the job"
    assert await ports.log.append(TOKEN, JOB, started(), after=after.sequence) is Outcome.WON


async def test_either_the_bar_or_the_claim_comes_first(ports: Ports) -> None:
    for number in range(20):
        job_id = f"{number:024x}"
        await ports.must_append(TOKEN, job_id, submitted())
        seen = (await ports.job(job_id)).sequence
        barred, claimed = await asyncio.gather(
            ports.log.bar(TOKEN, job_id, after=seen), ports.log.append(TOKEN, job_id, started(), after=seen)
        )
        assert barred is (claimed is Outcome.LOST)
