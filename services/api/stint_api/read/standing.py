"""Where a job stands: why it waits and how many come before it, what is done for it, or that its runner is back."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import structlog

from stint.core.errors import StintError
from stint.core.job import State
from stint.core.names.ids import queue_token
from stint.core.phase import Phase
from stint.core.view import JobView
from stint.ports import Pauses, Place
from stint_api.read.listing.index import ListIndex
from stint_api.read.phases import Phases
from stint_api.read.runners import Fleet, JetStreamRunnerReports

log = structlog.get_logger()

WaitsFor = Literal["", "turn", "held", "paused", "unserved", "capacity"]


class Standing(NamedTuple):
    """Where a job stands now; `stint_api.routes.models.jobs.JobBody` says what each field means."""

    position: int = 0
    waits_for: WaitsFor = ""
    phase: Phase | Literal[""] = ""
    progress: float | None = None
    back_since: str | None = None


NO_STANDING: Final = Standing()


@dataclass(frozen=True, slots=True)
class Standings:
    """Tells where jobs stand as they are read, from what the API knows at that moment. Nothing of it is stored."""

    index: ListIndex
    runners: JetStreamRunnerReports
    pauses: Pauses
    phases: Phases

    async def of(self, jobs: Sequence[JobView]) -> Mapping[str, Standing]:
        """By job id, for those that wait or run, as far as it is known."""
        running = (job for job in jobs if job.status is State.RUNNING)
        known = {
            job.job_id: Standing(phase=phase.phase, progress=phase.progress)
            for job in running
            if (phase := self.phases.of(Place(queue_token(job.qname), job.job_id)))
        }
        return {**known, **await self._waiting(jobs)}

    async def _waiting(self, jobs: Sequence[JobView]) -> Mapping[str, Standing]:
        """None of them while NATS or the list of jobs is unavailable, or a bucket is missing."""
        queues: defaultdict[str, list[JobView]] = defaultdict(list)
        for job in jobs:
            if job.status is State.QUEUED:
                queues[job.qname].append(job)
        if not queues:
            return {}
        try:
            paused, reports = await asyncio.gather(self._paused(queues), self.runners.read())
            found = [await self._in_queue(qname, waiting) for qname, waiting in queues.items()]
        except StintError as error:
            log.debug("it is not known why jobs wait", error=error.sentence)
            return {}
        fleet = Fleet(reports)
        return {
            job_id: Standing(before + 1, _reason(qname, before, held=held, paused=paused, runs=runs, fleet=fleet))
            for qname, (places, runs, held) in zip(queues, found, strict=True)
            for job_id, before in places.items()
        }

    async def _paused(self, qnames: Collection[str]) -> Collection[str]:
        if len(qnames) > 1:
            return (await self.pauses.all()).keys()
        (token,) = map(queue_token, qnames)
        return {token} if await self.pauses.find(token) else ()

    async def _in_queue(self, qname: str, jobs: Sequence[JobView]) -> tuple[Mapping[str, int], bool, bool]:
        """How many wait before each of these jobs, whether a job of the queue runs, and whether it is held."""
        ordered = sorted(jobs, key=lambda job: job.submission)
        submissions = [job.submission for job in ordered]
        before, head = await self.index.ask(lambda table: (table.ahead(qname, submissions), table.head(qname)))
        places = {job.job_id: count for job, count in zip(ordered, before, strict=True)}
        return places, head is not None, head is not None and head.held


def _reason(qname: str, before: int, *, held: bool, paused: Collection[str], runs: bool, fleet: Fleet) -> WaitsFor:
    """Reasons that a person can do something about come first."""
    if held:
        return "held"
    if queue_token(qname) in paused:
        return "paused"
    if not fleet.serves(qname):
        return "unserved"
    if before or runs:
        return "turn"
    return "" if fleet.has_room(qname) else "capacity"
