"""I8: whether everything ends in time."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from stint.core.events import Released, Submitted
from stint.core.job import Job
from stint.core.view import ended_time, parse_time
from tests.chaos.evidence import Evidence, Violation


def liveness_faults(jobs: Mapping[str, Job], evidence: Evidence) -> Iterator[Violation]:
    """Queues that had work, no fault and nothing held, and yet saw no end for longer than the patience."""
    patience = timedelta(seconds=evidence.patience)
    queues: dict[str, list[Job]] = defaultdict(list)
    for job in jobs.values():
        queues[job.token].append(job)
    calm = max((fault.end for fault in evidence.faults), default=None)
    for token, members in queues.items():
        for begin, end in _waits(members):
            since = max(begin, calm) if calm else begin
            if end - since > patience and not _excused(since, end, members):
                yield Violation("I8", token, f"It had work and saw no end for {(end - since).total_seconds():.0f} s.")
                break
    for job in jobs.values():
        if not job.terminal and not job.held:
            yield Violation("I8", job.job_id, f"It has not ended: it is {job.state}.")


def _waits(members: Sequence[Job]) -> Iterator[tuple[datetime, datetime]]:
    """From one end in a queue, or the next job's submission if that came later, to the next end."""
    over = [job for job in members if ended_time(job)]
    ends = sorted(parse_time(ended_time(job)) for job in over)
    submitted = sorted(parse_time(job.time_of(Submitted.kind)) for job in over)
    previous = submitted[0] if submitted else None
    for end, came in zip(ends, submitted, strict=False):
        if previous is not None:
            yield max(previous, came), end
        previous = end


def _excused(begin: datetime, end: datetime, members: Sequence[Job]) -> bool:
    """A held job keeps its queue waiting for an operator."""
    times = (parse_time(text) for job in members if (text := job.time_of(Released.kind)))
    return any(begin <= time <= end + timedelta(seconds=1) for time in times)
