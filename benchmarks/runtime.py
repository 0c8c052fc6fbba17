"""Jobs in containers of crun, beside the same containers of the engine's own runtime through aiodocker alone."""

from collections.abc import Sequence
from typing import Final

import aiodocker

from benchmarks.bare import bare
from benchmarks.jobs import JOBS, QUEUES, one_job, serial, wide
from benchmarks.measure import NotMeasuredError, Row
from benchmarks.stack import stack

RUNTIME: Final = "crun"


async def rows(times: int) -> Sequence[Row]:
    """As the group `jobs`; what stands beside Stint is the same there and here."""
    async with aiodocker.Docker() as docker:
        if RUNTIME not in (await docker.system.info())["Runtimes"]:
            raise NotMeasuredError(f"The engine has no runtime {RUNTIME}.")
    async with stack(STINT_CAPACITY=str(QUEUES), STINT_JOB_RUNTIME=RUNTIME) as stint, bare() as engine:
        return [
            await one_job(stint, f"one job, with {RUNTIME}", engine.job, "bare aiodocker", times * 4),
            await serial(stint, f"one queue, back to back, with {RUNTIME}", engine, times),
            await wide(
                stint,
                f"{JOBS} jobs over {QUEUES} queues, with {RUNTIME}",
                lambda: engine.jobs(JOBS, QUEUES),
                "bare, 8 at a time",
                times,
            ),
        ]
