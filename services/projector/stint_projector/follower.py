"""Keeps the view up to date with the log."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final, NamedTuple

import structlog

from stint.core.audit.operations import OPERATIONS
from stint.core.codec import encode, to_record
from stint.core.errors import (
    BrokerUnavailableError,
    InvalidJobIdError,
    InvalidTokenError,
    StreamMissingError,
)
from stint.core.events import Record, Submitted
from stint.core.job import Job, evolve
from stint.core.names.ids import BAD_QUEUE_TOKEN
from stint.core.names.subjects import parse_event_subject
from stint.jetstream import Delivered, EventFeed
from stint.process.waiting import for_each, repeat
from stint_projector.project import CONCURRENCY, Projected, Projector

log = structlog.get_logger()

KEPT: Final = 10_000
"""Jobs that are remembered, the ones that changed last: some 3 kB each."""
LARGE: Final = 8 * 1024
"""Bytes of an event from which on its job is not remembered, but loaded again."""
HEARTBEATS: Final = 3
"""Heartbeats within the feed's `ack_wait` for events that wait here."""
DELIVERIES: Final = 10
"""Deliveries after which an event that cannot be projected is skipped, unless NATS is unavailable: until the next
audit nobody else would find what is missing in the view."""
RECONNECT_PAUSE: Final = 0.5
"""Seconds before a request to an unavailable server is repeated."""


class Changes(NamedTuple):
    """What a batch of events does.

    `folded` are the jobs as they are now, each with the revision of its view that lacks the events; `unknown` are jobs
    that must be loaded, with the sequence of their last event.
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
            if known and _is_strangers(record, known.job):
                continue
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
        """Keep jobs whose view is at the revision given with it, unless they have ended or are large."""
        kept = (known for known in projected if not known.job.terminal and not _is_large(known.job))
        self._known.update({known.job.job_id: known for known in kept})
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]

    def forget(self) -> None:
        """Forget everything: the numbers may be those of another consumer."""
        self._known.clear()


def _is_strangers(record: Record, job: Job) -> bool:
    """Whether it came to another queue than the job's, after its submission, which decides that."""
    return record.token != job.token and record.sequence > job.facts[Submitted.kind].sequence


def _is_large(job: Job) -> bool:
    return any(len(encode(record.event)) > LARGE for record in job.facts.values() if record.event)


def job_of(event: Delivered) -> str:
    """The job that the event belongs to, "" if its subject names no queue or job."""
    record = _record(event)
    return record.job_id if record else ""


def _record(event: Delivered) -> Record | None:
    try:
        address = parse_event_subject(event.subject)
    except (InvalidTokenError, InvalidJobIdError):
        return None
    if address.token == BAD_QUEUE_TOKEN or address.kind in OPERATIONS:
        return None
    return to_record(address, event.data, sequence=event.sequence, time=event.time)


class Follower:
    """Projects every event of a feed, at least once.

    It keeps the events that it has received as long as it lives, however slow the projection is. If it dies or hangs,
    NATS delivers them to another projector. `following` says whether the feed is delivering events at the moment.
    """

    def __init__(self, feed: EventFeed, projector: Projector) -> None:
        self._feed = feed
        self._projector = projector
        self._folder = Folder()
        self._missing = ""
        self.following = False

    async def run(self) -> None:
        """Follow until cancelled, through any outage."""
        try:
            async with asyncio.TaskGroup() as group:
                # Without a heartbeat the events are delivered again, as is what was not acknowledged.
                pause = self._feed.ack_wait / HEARTBEATS
                group.create_task(repeat(self._feed.heartbeat, lambda: pause, failed="heartbeat of events failed"))
                await repeat(self._follow, lambda: RECONNECT_PAUSE, failed="the events cannot be followed, retrying")
        finally:
            with suppress(BrokerUnavailableError):
                await self._feed.leave()

    async def _follow(self) -> None:
        await self._feed.declare()
        self._folder.forget()
        self.following = True
        try:
            async with aclosing(self._feed.batches()) as batches:
                async for events in batches:
                    await self._project(events)
        finally:
            self.following = False

    async def _project(self, events: Sequence[Delivered]) -> None:
        changes = self._folder.fold(events)
        failed = await self._project_each(await self._project_folded(changes))
        await self._feed.ack([event for event in events if not failed or _is_done(event, failed)])

    async def _project_folded(self, changes: Changes) -> Mapping[str, int]:
        """Project the folded jobs all at once. Returns those that must be loaded, all of them if that fails."""
        projected = None
        try:
            projected = await self._projector.project_all(changes.folded)
        except BrokerUnavailableError:
            raise
        except StreamMissingError:
            pass  # told where they are projected one by one
        except Exception:  # one by one, the others will not fail
            log.exception("events not projected together")
        if projected is None:
            return {**changes.unknown, **{known.job.job_id: known.job.sequence for known in changes.folded}}
        self._folder.remember(projected)
        return changes.unknown

    async def _project_each(self, jobs: Mapping[str, int]) -> Mapping[str, bool]:
        """Project jobs from the log; returns those that failed, whose events are delivered again.

        For each of them: whether that need not be its own fault, because NATS was unavailable or a stream is missing.
        """
        failed: dict[str, bool] = {}
        missing = ""

        async def project(job_id: str) -> None:
            nonlocal missing
            try:
                if projected := await self._projector.project(job_id, at_least=jobs[job_id]):
                    self._folder.remember([projected])
            except BrokerUnavailableError:
                failed[job_id] = True
            except StreamMissingError as error:  # it may be made again, and what failed is then delivered again
                failed[job_id], missing = True, error.sentence
            except Exception:  # one event must not stop the view
                log.exception("event not projected", job=job_id)
                failed[job_id] = False

        await for_each(jobs, project, at_once=CONCURRENCY)
        if missing and missing != self._missing:
            log.error("events wait for a stream or bucket that is missing", error=missing)
        self._missing = missing if jobs else self._missing
        return failed


def _is_done(event: Delivered, failed: Mapping[str, bool]) -> bool:
    """Whether an event need not be delivered again: its job was projected, or cannot be."""
    unavailable = failed.get(job_of(event))
    return unavailable is None or (not unavailable and event.deliveries >= DELIVERIES)
