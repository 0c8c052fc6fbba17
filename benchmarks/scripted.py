"""Runners on an engine that costs next to nothing, so that what remains is Stint.

The engine is the one of the chaos tests: its containers are plain processes.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.scripted_engine import SCHEME, scripted_engine
from tests.support.servers import ServiceProcess

from benchmarks.stack import Stack, stack
from stint.vault.setup import service_settings
from stint_runner.engine.port import Engine

AT_ONCE: Final = 200
"""Jobs that are submitted and followed at the same time; an API takes a few hundred connections."""


@asynccontextmanager
async def fleet() -> AsyncIterator["Fleet"]:
    """A stack whose runners are still to be started."""
    async with stack(runners=0, STINT_AUTHZ="any") as stint, scripted_engine(stint.folder / "engine") as engine:
        env = stint.env
        settings = await service_settings(env["VAULT_ADDR"], env["VAULT_TOKEN"], role=env["STINT_ROLE"])
        yield Fleet(stint, engine, dict(settings))


class Fleet:
    """Starts runners on the stack's scripted engine."""

    def __init__(self, stint: Stack, engine: Engine, settings: dict[str, str]) -> None:
        self.stint = stint
        self.engine = engine
        self._settings = settings

    @asynccontextmanager
    async def runners(self, count: int, capacity: int) -> AsyncIterator[list[int]]:
        """That many runners, ready, for the duration of the block; their process ids."""
        runners = [self._runner(number, capacity) for number in range(count)]
        try:
            await asyncio.gather(*(runner.start() for runner in runners))
            yield [runner.pid for runner in runners]
        finally:
            await asyncio.gather(*(runner.stop() for runner in runners))

    def _runner(self, number: int, capacity: int) -> "Runner":
        env = {
            **self._settings,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[1]),
            **self.stint.nats_access("runner"),
            "VAULT_ADDR": self.stint.env["VAULT_ADDR"],
            "STINT_RUNNER_ID": f"bench-{number}",
            "STINT_CAPACITY": str(capacity),
            "STINT_STATE_DIR": str(self.stint.folder / f"state-{number}"),
            "STINT_DRAIN": "0",
            "STINT_KILL_GRACE": "1",
            "DOCKER_HOST": f"{SCHEME}{self.stint.folder}/engine",
        }
        return Runner(self.stint.folder / f"runner-{number}", environ=env)

    async def run(self, queues: Sequence[str]) -> float:
        """A job in each of these queues, which may be named more than once.

        Returns:
            Jobs a second, from the first POST to the last end.
        """
        tickets = await self.stint.tickets(len(queues))
        start = time.perf_counter()
        for first in range(0, len(queues), AT_ONCE):
            chosen = zip(tickets[first : first + AT_ONCE], queues[first:], strict=False)
            ids = await asyncio.gather(*(self.stint.submit(ticket, queue=queue) for ticket, queue in chosen))
            await asyncio.gather(*(self.stint.end(job_id) for job_id in ids))
        return len(queues) / (time.perf_counter() - start)

    async def start_times(self, name: str, count: int) -> list[float]:
        """Milliseconds from the POST to the start of a job in each of so many new queues, one after another."""
        found = []
        for number, ticket in enumerate(await self.stint.tickets(count)):
            start = time.perf_counter()
            job_id = await self.stint.submit(ticket, queue=f"{name}-{number}")
            await self.started(job_id)
            found.append((time.perf_counter() - start) * 1000)
            await self.stint.end(job_id)
        return found

    async def started(self, job_id: str) -> None:
        """Wait for a job's start."""
        async with aclosing(self.stint.events(job_id)) as events:
            async for _, data in events:
                if b'"started"' in data:
                    return


@dataclass
class Runner(ServiceProcess):
    """A runner on the scripted engine."""

    MODULE = ("tests.chaos.scripted_runner",)
    READY = 120.0
    """Seconds that a busy machine may take to start several."""
