"""The stream of events as it grows, read from the stream itself."""

import asyncio
import contextlib
from typing import Final

from stint.core.errors import StintError
from stint.core.events import Held, Record
from stint.core.job import Job, evolve
from stint.core.names.streams import EVENTS
from stint.jetstream import Broker
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.protocol import records, sequence_of
from tests.chaos.load import Load

LOOK: Final = 1.0
"""Seconds between two looks."""
OPERATOR: Final = 10
"""Looks after which an operator releases a held job."""


class Follower:
    """Attributes: `records`, all of them in order; `jobs` as they tell them."""

    def __init__(self, broker: Broker) -> None:
        self.records: list[Record] = []
        self.jobs: dict[str, Job] = {}
        self.progress = asyncio.get_running_loop().time()
        self._broker = broker
        self._sequence = 0
        self._held: dict[str, int] = {}

    async def catch_up(self) -> None:
        """Read what is new.

        Raises:
            StintError: NATS is away, or does not lead.
        """
        async for page in Stream(self._broker, EVENTS).pages(after=self._sequence):
            for record in records(page):
                if record.sequence > self._sequence:  # two may be reading
                    self._see(record)
                    self._sequence = record.sequence
            self._sequence = max(self._sequence, sequence_of(page[-1]))

    def _see(self, record: Record) -> None:
        self.records.append(record)
        before = self.jobs.get(record.job_id)
        if job := evolve(before, record):
            self.jobs[record.job_id] = job
            if job.terminal and not (before and before.terminal):
                self.progress = asyncio.get_running_loop().time()

    @property
    def unended(self) -> list[Job]:
        return [job for job in self.jobs.values() if not job.terminal]

    async def run(self, load: Load) -> None:
        """Follow, and release held jobs after a while, until cancelled."""
        while True:
            with contextlib.suppress(StintError):
                await self.catch_up()
            for job in self.unended:
                if Held.kind in job.facts:
                    self._held[job.job_id] = looks = self._held.get(job.job_id, 0) + 1
                    if looks >= OPERATOR:
                        await load.release(job.job_id)
            await asyncio.sleep(LOOK)

    async def until_all_ended(self, patience: float) -> None:
        """Wait while something still happens, once all has been sent, until nothing is left."""
        now = asyncio.get_running_loop().time
        self.progress = now()
        while now() - self.progress <= patience:
            with contextlib.suppress(StintError):
                await self.catch_up()
                if not self.unended:
                    return
            await asyncio.sleep(LOOK)
