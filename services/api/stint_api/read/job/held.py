"""Whether the lost runner of a held job came back. No event records it, but the job's log and output show it."""

from stint.core.events import Held
from stint.core.job import Job
from stint.core.view import back_since, parse_time
from stint.ports import OutputLog


async def seen_back(output: OutputLog, job: Job) -> str | None:
    """Since when the job's runner is back, None if nothing shows that it is; see `back_since`.

    Output that was removed shows nothing any more. Nothing is remembered here: each call reads one message, and only
    for a job that was held.
    """
    held = job.facts.get(Held.kind)
    if held is None:
        return None
    chunk = await output.first_since(job.token, job.job_id, parse_time(held.time))
    return back_since(job, chunk.time if chunk and chunk.number else "")
