"""Removes containers and images of jobs that are over from this engine, whichever runner left them."""

from collections.abc import Collection
from typing import Final

import structlog

from stint.core.names.headers import LABEL_JOB
from stint.core.names.ids import is_job_id
from stint.process.waiting import repeat
from stint_runner.dispatch.dispatcher import Dispatcher
from stint_runner.engine.removal import cleared
from stint_runner.runner import Runner

log = structlog.get_logger()

INTERVAL: Final = 30.0  # seconds between two sweeps
WITHIN: Final = 1.0  # seconds for the removal of a job's containers. One that stays holds up no others


class Leftovers:
    """The sweep."""

    def __init__(self, runner: Runner, dispatcher: Dispatcher) -> None:
        self._runner = runner
        self._dispatcher = dispatcher

    async def run(self) -> None:
        """Sweep until cancelled, through any outage."""
        await repeat(self.remove, lambda: INTERVAL, failed="sweep for leftovers failed")

    async def remove(self) -> None:
        """Sweep once. What is left of a job that is not in this log belongs to another Stint."""
        engine = self._runner.engine
        await self._remove({container.labels[LABEL_JOB] for container in await engine.find({LABEL_JOB: ""})})
        await self._remove(await engine.frozen(LABEL_JOB), image=True)  # last: an engine may be unable to list them

    async def _remove(self, found: Collection[str], *, image: bool = False) -> None:
        engine, processed = self._runner.engine, {address.job_id for address in self._dispatcher.jobs}
        for job_id in filter(is_job_id, {*found} - processed):  # strangers label images, too
            job = await self._runner.log.load(job_id)
            if job is not None and job.terminal and await cleared(engine, job_id, image=image, within=WITHIN):
                log.info("leftovers of a job removed", job=job_id)
                self._runner.deadlines.drop(job_id)
