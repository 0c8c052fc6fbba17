"""Queues as one caller may see them, and how they are paused and resumed."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
import structlog

from stint.core.audit.operations import Paused, Resumed
from stint.core.job import ACTIVE
from stint.core.names.ids import queue_name, queue_token
from stint.core.pause import Pause
from stint.core.submission.jsontext import read_object
from stint.core.submission.payload import convert
from stint.core.view import NEVER, rfc3339
from stint.jetstream import JetStreamOperations
from stint.ports import EventLog, Pauses
from stint.vault.actions import PAUSE, RESUME
from stint_api.auth import Authenticator, Identity
from stint_api.errors import RefusalError
from stint_api.read.listing.index import ListIndex
from stint_api.read.listing.lists import Lists
from stint_api.read.listing.queue_rows import QueueRow
from stint_api.read.listing.table import Table
from stint_api.read.runners import Fleet, JetStreamRunnerReports

HOUR: Final = timedelta(hours=1)

Queue = dict[str, Any]
"""The fields of `stint_api.routes.models.QueueBody`."""

log = structlog.get_logger()

ATTEMPTS: Final = 20
"""Attempts to bar a job to which others append meanwhile. A job has fewer events than that."""


@dataclass(frozen=True, slots=True)
class QueueList:
    """Describes queues, from the table of views, pauses and reports. Raises BrokerUnavailableError without these."""

    index: ListIndex
    lists: Lists
    runners: JetStreamRunnerReports
    pauses: Pauses
    now: Callable[[], datetime]

    async def all(self, identity: Identity) -> Sequence[Queue]:
        """The queues with jobs that can be seen, and those that are paused, that the caller may read; by name.

        Raises RefusalError, too, if the token has ended since it was looked up.
        """
        now = self.now()
        rows, pauses, reports = await asyncio.gather(
            self.index.ask(lambda table: table.queue_rows(now - HOUR)), self.pauses.all(), self.runners.read()
        )
        paused = {queue_name(token): pause for token, pause in pauses.items()}
        known = {qname: QueueRow(qname) for qname in paused} | {row.qname: row for row in rows}
        readable, fleet = await self.lists.readable(identity, known.keys()), Fleet(reports)
        return [_described(known[qname], paused.get(qname), fleet, now) for qname in sorted(readable)]

    async def unserved(self) -> int:
        """How many jobs wait in queues that no runner serves. With thousands of queues it takes milliseconds."""
        fleet = Fleet(await self.runners.read())
        if fleet.serves_all:
            return 0
        depths = await self.index.ask(Table.depths)
        return await asyncio.to_thread(lambda: sum(jobs for qname, jobs in depths if not fleet.serves(qname)))

    async def last_hour(self, qname: str) -> Mapping[str, Any]:
        """Its last hour, as far as its jobs are kept: the fields of `stint_api.routes.models.LastHourBody`."""
        now = self.now()
        found = await self.index.ask(lambda table: table.last_hour(qname, now))
        return {**found._asdict(), "since": rfc3339(found.since)}

    async def one(self, qname: str) -> Queue:
        """One queue, which need not have any job, and the ids of the first jobs that wait in it."""
        now = self.now()
        (rows, waiting), pause, reports = await asyncio.gather(
            self.index.ask(lambda table: (table.queue_rows(now - HOUR, qname), table.waiting(qname))),
            self.pauses.find(queue_token(qname)),
            self.runners.read(),
        )
        row = rows[0] if rows else QueueRow(qname)
        return {**_described(row, pause, Fleet(reports), now), "waiting": waiting}

    async def without_jobs(self, qname: str) -> Queue:
        """One queue for a caller who may not read it: like one that has no jobs."""
        pause, reports = await asyncio.gather(self.pauses.find(queue_token(qname)), self.runners.read())
        return {**_described(QueueRow(qname), pause, Fleet(reports), self.now()), "waiting": ()}


def _described(row: QueueRow, pause: Pause | None, fleet: Fleet, now: datetime) -> Queue:
    head = row.head
    oldest = now.timestamp() - row.oldest / 1e6 if row.depth else 0
    return {
        "qname": row.qname,
        "depth": row.depth,
        "running": head.job_id if head else "",
        "running_status": head.status if head else "",
        "oldest_wait": float(max(0, int(oldest))),
        "held": bool(head and head.held),
        "held_since": head.held_since if head else NEVER,
        "paused": {"who": pause.who, "at": pause.at, "reason": pause.reason} if pause else None,
        "served": fleet.serves(row.qname),
        "last_contact": (fleet.last_seen(head.node_uuid) or head.started) if head else NEVER,
        "ended_last_hour": row.ended,
        "failed_last_hour": row.failed,
    }


class PauseRequest(msgspec.Struct, frozen=True):
    """What a request to pause a queue says."""

    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""


def parse_reason(body: bytes) -> str:
    """The reason in a request's body, "" without a body. Raises UndecodableError for anything but a short text."""
    if not body.strip():
        return ""
    return convert(read_object(body, {"reason"}, scanned=True), PauseRequest).reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Pausing:
    """Pauses queues and resumes them. Nothing is done that is not recorded, so that comes first.

    Both are safe to repeat. They raise RefusalError if the caller may not do this, and BrokerUnavailableError if it is
    not known whether it is done.
    """

    log: EventLog
    pauses: Pauses
    auth: Authenticator
    operations: JetStreamOperations
    now: Callable[[], datetime]
    new_operation_id: Callable[[], str]

    async def pause(self, identity: Identity, qname: str, reason: str) -> None:
        """Let a queue start no job any more. On return none can start that had not been claimed before."""
        await self.auth.require(identity, PAUSE, qname)
        token = queue_token(qname)
        pause = Pause(
            who=identity.name, at=rfc3339(self.now()), reason=reason, entity=identity.entity, accessor=identity.accessor
        )
        paused = Paused(**identity.stamp(self.now()), reason=reason)
        await self.operations.record(paused, self.new_operation_id(), token)
        await self.pauses.put(token, pause)
        await self._bar_next(token)
        log.info("queue paused", queue=token, who=identity.name)

    async def resume(self, identity: Identity, qname: str) -> None:
        """Let a queue continue."""
        await self.auth.require(identity, RESUME, qname)
        token = queue_token(qname)
        resumed = Resumed(**identity.stamp(self.now()))
        await self.operations.record(resumed, self.new_operation_id(), token)
        await self.pauses.remove(token)
        log.info("queue resumed", queue=token, who=identity.name)

    async def _bar_next(self, token: str) -> None:
        """Bar the job that a runner may be about to claim: the first one in the work queue that is not over."""
        async for job_id in self.pauses.waiting(token):
            for _ in range(ATTEMPTS):
                job = await self.log.load(job_id, at_least=sys.maxsize)  # from the stream's leader
                if job is None or job.token != token or job.terminal:
                    break
                if job.state in ACTIVE or await self.log.bar(token, job_id, after=job.sequence):
                    return
            else:
                sentence = "The queue's next job is changing too fast. Try again."
                raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, sentence)
