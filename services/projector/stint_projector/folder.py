"""Folds events in memory, so that a job need not be loaded from the log for each of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from stint.core.audit.operations import OPERATIONS
from stint.core.codec import to_record
from stint.core.errors import InvalidJobIdError, InvalidTokenError
from stint.core.events import Record, Submitted
from stint.core.job import evolve
from stint.core.names.ids import BAD_QUEUE_TOKEN
from stint.core.names.subjects import parse_event_subject
from stint.jetstream import Delivered
from stint_projector.project import Projected

KEPT: Final = 10_000
"""Jobs that are remembered, the ones that changed last: some 3 kB each."""


class Changes(NamedTuple):
    """What a batch of events does.

    Attributes:
        folded: the jobs as they are now, each with the revision of its view that lacks the events.
        unknown: jobs that must be loaded, with the sequence of their last event.
    """

    folded: Sequence[Projected]
    unknown: Mapping[str, int]


class Folder:
    """Jobs of which this reader has received every event, or every one since it has loaded them.

    The feed counts its deliveries over all readers: as long as its numbers have no gap, nobody else has received an
    event, and a job's events are in order. At a gap everything is forgotten. A job is loaded if it is not remembered,
    unless it begins with an event that the feed has delivered to nobody before: otherwise a job that ended and expired
    long ago could appear again, as when the feed was lost and delivers all events once more. A view that another
    projector or a rebuild has written meanwhile has another revision than the one that is remembered here.
    """

    def __init__(self) -> None:
        self._known: dict[str, Projected] = {}
        self._number = 0

    def fold(self, events: Sequence[Delivered]) -> Changes:
        """Apply events whose numbers have no gap. Jobs that they change are forgotten until they are remembered."""
        if events[0].number != self._number + 1:
            self._known.clear()
        self._number = events[-1].number
        changed: dict[str, Projected] = {}
        unknown: dict[str, int] = {}
        for event in events:
            record = _record(event)
            if record is None:
                continue  # it names no job, so there is no view of it
            job_id = record.job_id
            known = changed.get(job_id) or self._known.get(job_id)
            new = not known or record.sequence > known.job.sequence
            # A job that was submitted to two queues belongs to the first, which only the log can tell.
            mine = known.job.token == record.token if known else event.first and record.kind == Submitted.kind
            if job_id in unknown or not mine or (new and event.deliveries > 1):
                changed.pop(job_id, None)
                unknown[job_id] = max(record.sequence, unknown.get(job_id, 0))
            elif new and (job := evolve(known.job if known else None, record)):
                changed[job_id] = Projected(job, known.revision if known else 0)
        for job_id in (*changed, *unknown):
            self._known.pop(job_id, None)
        return Changes(list(changed.values()), unknown)

    def remember(self, projected: Iterable[Projected]) -> None:
        """Keep jobs whose view is at the revision given with it, unless they have ended."""
        self._known.update({known.job.job_id: known for known in projected if not known.job.terminal})
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]

    def forget(self) -> None:
        """Forget everything: the numbers may be those of another consumer."""
        self._known.clear()
        self._number = 0


def job_of(event: Delivered) -> str:
    """The job that the event belongs to, "" if its subject names no queue or job."""
    record = _record(event)
    return record.job_id if record else ""


def _record(event: Delivered) -> Record | None:
    """The event, None if its subject names no queue or job."""
    try:
        address = parse_event_subject(event.subject)
    except (InvalidTokenError, InvalidJobIdError):
        return None
    if address.token == BAD_QUEUE_TOKEN or address.kind in OPERATIONS:
        return None
    return to_record(address, event.data, sequence=event.sequence, time=event.time)
