"""The jobs of what the index has: only the log says whether it still has them."""

from collections.abc import Mapping, Sequence
from typing import Final

from stint.core.job import Job
from stint.ports import EventLog
from stint.process.waiting import for_each
from stint_api.audit.index import AuditIndex
from stint_api.audit.secrets import Given
from stint_api.audit.table import Entry

LOADS: Final = 16
"""Jobs that are loaded at a time."""


async def jobs_of(log: EventLog, index: AuditIndex, rows: Sequence[Entry | Given]) -> Mapping[str, Job]:
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
