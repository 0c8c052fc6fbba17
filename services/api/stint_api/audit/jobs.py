"""The jobs of what the index has: only the log says whether it still has them."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from stint.core.job import Job
from stint.ports import EventLog
from stint.process.waiting import for_each
from stint_api.audit.index import AuditIndex

LOADS: Final = 16
"""Jobs that are loaded at a time."""


class Found(Protocol):
    """A row of the index."""

    @property
    def sequence(self) -> int:
        """Of its event."""

    @property
    def job(self) -> str:
        """The job's id."""


async def jobs_of(log: EventLog, index: AuditIndex, rows: Sequence[Found]) -> Mapping[str, Job]:
    """The jobs of these rows, the newest first, at least as new as they are. The index forgets rows without a job."""
    newest = {row.job: row.sequence for row in reversed(rows)}
    jobs: dict[str, Job] = {}

    async def load(job_id: str) -> None:
        if job := await log.load(job_id, at_least=newest[job_id]):
            jobs[job_id] = job

    await for_each(newest, load, at_once=LOADS)
    if gone := [row.sequence for row in rows if row.job not in jobs]:
        await index.ask(lambda tables: tables.remove(gone))
    return jobs
