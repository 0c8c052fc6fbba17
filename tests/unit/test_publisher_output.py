"""What a publisher makes of what it hears of a job: anybody in its account could say it live."""

import asyncio
from typing import Any

import msgspec
import pytest

from stint.core.job import Job, State
from stint.core.output.chain import Chain, Chunk
from stint.publisher import PublishedJob
from stint.publisher.output import HeardOutput, OutputReader
from tests.support.events import QUEUE, TOKEN
from tests.support.outputs import chained
from tests.support.virtual_time import in_virtual_time
from tests.support.waiting import meanwhile


@pytest.mark.parametrize("wrong", [{"data": b"forged"}, {"digest": "0" * 64}, {"number": 2}, {"offset": 1}])
async def test_what_does_not_continue_the_chain_is_no_output(wrong: dict[str, Any]) -> None:
    _, chunk = chained(Chain(), b"first", sequence=7)
    stored = msgspec.structs.replace(chunk, **wrong)

    class Output(HeardOutput):
        async def read(self, sequence: int) -> Chunk | None:
            assert sequence == 0
            return stored

    output = Output(None, TOKEN, "a" * 24)  # type: ignore[arg-type] # it asks for nothing
    output.hear(stored)
    reader = OutputReader(output)
    assert await reader.next(total=1) is None
    stored = chunk
    assert (await reader.next(total=1), reader.tail) == (chunk, b"first")


@in_virtual_time()
async def test_a_flood_of_live_messages_causes_few_looks_at_the_log() -> None:
    looks = 0

    class Flooded(PublishedJob):
        async def _current(self, *, quiet: bool) -> Job:
            del quiet
            nonlocal looks
            looks += 1
            return Job(job_id=self.id, token=TOKEN, state=State.QUEUED, sequence=1, facts={})

        async def flood(self) -> None:
            for _ in range(1000):
                self._wake()
                await asyncio.sleep(0.001)

    job = Flooded(None, None, QUEUE, "a" * 24)  # type: ignore[arg-type] # it asks for nothing
    async with meanwhile(job.wait()):
        await job.flood()
    assert 45 < looks <= 51, "they go on, and no more often"
