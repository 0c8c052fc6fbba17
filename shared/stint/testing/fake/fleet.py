"""The queues and the runner of a `FakeStint`."""

from datetime import UTC, datetime
from typing import Any

import stint
from stint.core.audit.operations import DrainRequested, Paused, Resumed
from stint.core.events import Held
from stint.core.job import ACTIVE, Job, State
from stint.core.view import NEVER, parse_time, rfc3339, view
from stint.testing.fake.ending import WRITER, written
from stint.testing.fake.jobs import FakeJobs, name_of

Fields = dict[str, Any]


class FakeFleet:
    """Queues that can be paused, and one runner that can be drained: it then starts nothing more."""

    def __init__(self, jobs: FakeJobs) -> None:
        self._jobs = jobs
        self._begun = rfc3339(datetime.now(UTC))

    async def queues(self) -> list[Fields]:
        """Those with jobs, and those that are paused, by name."""
        jobs = self._jobs.submitted
        with_jobs = {name_of(jobs[job.job_id]) for job in await self._jobs.all()}
        return [await self.queue(name) for name in sorted(with_jobs | self._jobs.pauses.keys())]

    async def queue(self, name: str) -> Fields:
        jobs = await self._jobs.all(name)
        waiting = [job for job in jobs if job.state is State.QUEUED]
        ended = [job for job in jobs if job.terminal]
        running = next((view(job) for job in jobs if job.state in ACTIVE), None)
        return {
            "qname": name,
            "depth": len(waiting),
            "running": running.job_id if running else "",
            "running_status": running.status if running else "",
            "oldest_wait": _age(waiting[0]) if waiting else 0.0,
            "held": bool(running and running.held),
            "held_since": running.held_since if running else NEVER,
            "paused": self._jobs.pauses.get(name),
            "served": not self._jobs.draining,
            "last_contact": running.started if running else NEVER,
            "ended_last_hour": len(ended),
            "failed_last_hour": sum(job.state is not State.SUCCESS for job in ended),
            "waiting": [job.job_id for job in waiting],
        }

    async def pause(self, name: str, reason: str) -> Fields:
        self._jobs.record(Paused(**written(), reason=reason), name)
        self._jobs.pauses[name] = {"who": WRITER, "at": rfc3339(datetime.now(UTC)), "reason": reason}
        return await self.queue(name)

    async def resume(self, name: str) -> Fields:
        self._jobs.record(Resumed(**written()), name)
        self._jobs.pauses.pop(name, None)
        await self._jobs.start()
        return await self.queue(name)

    async def runners(self) -> list[Fields]:
        running = [job for job in await self._jobs.all() if job.state in ACTIVE and Held.kind not in job.facts]
        now = rfc3339(datetime.now(UTC))
        return [
            {
                "runner": WRITER,
                "alive": True,
                "draining": self._jobs.draining,
                "drained_by": WRITER if self._jobs.draining else "",
                "capacity": 1,
                "running": [job.job_id for job in running],
                "queues": [],
                "version": stint.__version__,
                "started": self._begun,
                "last_seen": now,
                "kill_grace": 10,
                "engine": {},
            }
        ]

    def drain(self, runner: str) -> bool:
        """Start nothing more; False if there is no such runner."""
        if runner != WRITER:
            return False
        self._jobs.record(DrainRequested(**written(), runner=runner))
        self._jobs.draining = True
        return True


def _age(job: Job) -> float:
    waited = datetime.now(UTC) - parse_time(view(job).submitted)
    return float(max(int(waited.total_seconds()), 0))
