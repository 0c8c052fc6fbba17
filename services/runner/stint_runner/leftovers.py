"""Containers of jobs that are over, whoever left them on this engine."""

import asyncio
import random
from typing import Final

import structlog

from stint.errors import StintError
from stint.subjects import LABEL_JOB
from stint_runner.attend import Attendant
from stint_runner.parts import Parts
from stint_runner.removal import remove_containers

log = structlog.get_logger()

INTERVAL: Final = 30.0
"""Seconds between two looks, more or less."""


class Leftovers:
    """Removes them, beside the jobs that run."""

    def __init__(self, parts: Parts, attendant: Attendant) -> None:
        self._parts = parts
        self._attendant = attendant

    async def run(self) -> None:
        """Look now and then until cancelled, through any outage."""
        while True:
            try:
                await self.remove()
            except StintError as error:
                log.info("leftovers not looked for", error=error.sentence)
            except Exception:  # a fault here can never stop the jobs
                log.exception("leftovers not looked for")
            await asyncio.sleep(INTERVAL * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    async def remove(self) -> None:
        """Look once. What belongs to no job of this log is another Stint's."""
        found = await self._parts.engine.find({LABEL_JOB: ""})
        at_work = {address.job_id for address in self._attendant.jobs}
        for job_id in {container.labels[LABEL_JOB] for container in found} - at_work:
            job = await self._parts.log.load(job_id)
            if job is not None and job.terminal and await remove_containers(self._parts.engine, job_id):
                log.info("leftover container removed", job=job_id)
                self._parts.deadlines.drop(job_id)
