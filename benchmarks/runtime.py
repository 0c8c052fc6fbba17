"""Jobs in containers of crun, beside the same containers of the engine's own runtime through aiodocker alone."""

from collections.abc import Sequence
from typing import Final

import aiodocker

from benchmarks.bare import Bare
from benchmarks.jobs import BARE, QUEUES, one_job, serial, wide_beside_bare
from benchmarks.measure import NotMeasuredError, Row
from benchmarks.stack import stack

RUNTIME: Final = "crun"


async def rows(times: int) -> Sequence[Row]:
    """As the group `jobs`; what stands beside Stint is the same there and here."""
    async with aiodocker.Docker() as docker:
        if RUNTIME not in (await docker.system.info())["Runtimes"]:
            raise NotMeasuredError(f"The engine has no runtime {RUNTIME}.")
        engine = Bare(docker)
        async with stack(STINT_CAPACITY=str(QUEUES), STINT_JOB_RUNTIME=RUNTIME) as stint:
            return [
                await one_job(stint, f"one job, with {RUNTIME}", engine.job, BARE, times * 4),
                await serial(stint, f"one queue, back to back, with {RUNTIME}", engine, times),
                await wide_beside_bare(stint, f"with {RUNTIME}", engine, times),
            ]
