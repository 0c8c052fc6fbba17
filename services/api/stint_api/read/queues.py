"""Queues as one caller may see them: what waits, what runs, and whether a person must do something."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from stint.core.names.ids import queue_name, queue_token
from stint.core.pause import Pause
from stint.core.view import NEVER, rfc3339
from stint.ports import Pauses
from stint_api.auth import Identity
from stint_api.read.listing.index import ListIndex
from stint_api.read.listing.lists import Lists
from stint_api.read.listing.queue_rows import QueueRow
from stint_api.read.listing.table import Table
from stint_api.read.runners import Fleet, JetStreamRunnerReports

HOUR: Final = timedelta(hours=1)

Queue = dict[str, Any]
"""The fields of `stint_api.routes.models.QueueBody`."""


@dataclass(frozen=True, slots=True)
class QueueList:
    """Describes queues, from the table of views, the pauses and what runners report.

    All methods raise BrokerUnavailableError while these are not known.
    """

    index: ListIndex
    lists: Lists
    runners: JetStreamRunnerReports
    pauses: Pauses
    now: Callable[[], datetime]

    async def all(self, identity: Identity) -> Sequence[Queue]:
        """The queues with jobs that can be seen, and those that are paused, that the caller may read; by name.

        Raises:
            RefusalError: the token has ended since it was looked up.
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
