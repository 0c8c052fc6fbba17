"""A job's output, chunk by chunk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from stint.core.events import AnyEvent, Ended
from stint.core.output.chain import Chain, Chunk
from stint.core.output.lines import Lines
from stint.jetstream import Broker, JetStreamEventLog, JetStreamOutput
from stint.ports import OutputLog, Place
from stint.process.waiting import any_of
from tests.support import events


@asynccontextmanager
async def written(output: OutputLog, token: str, job_id: str) -> AsyncIterator[AsyncIterator[Chunk]]:
    """All of it so far, and then what comes."""
    async with output.follow(token, job_id) as changed:
        yield _read(output, token, job_id, changed)


async def _read(output: OutputLog, token: str, job_id: str, changed: asyncio.Event) -> AsyncIterator[Chunk]:
    sequence = 0
    while True:
        changed.clear()
        async for chunk in output.read(token, job_id, after=sequence):
            sequence = chunk.sequence
            yield chunk
        # In a cluster the replica that was read may lag behind the trigger, or the trigger may not arrive.
        await any_of(changed, within=0.5)


def chained(chain: Chain, data: bytes, stream: str = "stdout", **place: Any) -> tuple[Chain, Chunk]:
    """The next chunk of an output, and what its chain is with it."""
    after = chain.add(data)
    chunk = Chunk(number=after.chunks, offset=chain.size, stream=stream, digest=after.digest, data=data, **place)
    return after, chunk


class Writer:
    """Writes a job's output as a runner does."""

    def __init__(self, output: OutputLog, token: str, job_id: str) -> None:
        self.chain = Chain()
        self._output = output
        self._place = (token, job_id)
        self._sequence = 0
        self._lines = Lines()

    async def write(self, data: bytes, stream: str = "stdout") -> None:
        begun = self._lines.next(stream)
        self._lines.add(stream, data)
        self.chain, chunk = chained(self.chain, data, stream, line=begun.line, continues=begun.continues)
        self._sequence = await self._output.append(*self._place, chunk, after=self._sequence)

    def counted(self, ended: Ended) -> Ended:
        """The end, with what it says of the output."""
        chain = self.chain
        return msgspec.structs.replace(ended, chunks=chain.chunks, output_bytes=chain.size, output_digest=chain.digest)


class Played:
    """A job whose runner the test plays."""

    def __init__(self, broker: Broker, token: str, job_id: str) -> None:
        self.token, self.job_id = token, job_id
        self._log, self._writer = JetStreamEventLog(broker), Writer(JetStreamOutput(broker), token, job_id)

    async def facts(self, *facts: AnyEvent) -> None:
        for fact in facts:
            await self._log.append(self.token, self.job_id, fact)

    async def write(self, *pieces: tuple[str, bytes]) -> None:
        for stream, data in pieces:
            await self._writer.write(data, stream)

    async def begin(self, *pieces: tuple[str, bytes]) -> None:
        """Start it, and write these."""
        await self.facts(events.started())
        await self.write(*pieces)

    async def end(self, status: str = "success", reason: str = "", code: int = 0) -> None:
        """An end that tells of what was written."""
        await self.facts(self._writer.counted(events.ended(status, reason, code)))


async def places_of(output: OutputLog) -> set[Place]:
    return {place async for places in output.places() for place in places}
