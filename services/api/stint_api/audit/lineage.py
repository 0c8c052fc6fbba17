"""Which jobs got a secret, as one caller may see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from stint.core.audit.trail import is_older, path_of
from stint.core.events import Submitted
from stint.core.job import Job
from stint.core.names.ids import queue_name
from stint.ports import EventLog
from stint_api.audit.index import AuditIndex
from stint_api.audit.secrets import Given, WantedSecret
from stint_api.auth import Authenticator, Identity


@dataclass(frozen=True, slots=True)
class Holder:
    """A secret that a job got. It is `outdated` if a job has got a newer version since."""

    given: Given
    qname: str
    job: Job
    outdated: bool

    @property
    def who(self) -> str:
        """Who submitted the job."""
        submitted = self.job.fact(Submitted)
        return submitted.by if submitted else ""


@dataclass(frozen=True, slots=True)
class Holders:
    """A page of them.

    Attributes:
        newest: the newest version that a job got, in the queues that the caller may read; None if there is none.
        next: the number behind which the next page begins, None if there is none.
        as_of: until when the index was complete.
    """

    holders: Sequence[Holder]
    newest: int | None
    next: int | None
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Lineage:
    """Says which jobs got a secret, in the queues that a caller may read."""

    index: AuditIndex
    log: EventLog
    auth: Authenticator

    async def find(self, identity: Identity, wanted: WantedSecret, limit: int) -> Holders:
        """The page. It may be short although another follows.

        Raises:
            RefusalError: the token has ended since it was looked up.
            BrokerUnavailableError: the events are not known yet, or NATS does not answer.
        """
        as_of = self.index.as_of
        versions = await self.index.ask(lambda tables: tables.secrets.newest(path_of(wanted.secret)))
        readable = await self.auth.readable(identity, [queue_name(token) for token in versions])
        mine = {token: version for token, version in versions.items() if queue_name(token) in readable}
        newest = max((version for version in mine.values() if version is not None), default=None)
        rows = await self.index.ask(lambda tables: tables.secrets.find(wanted, newest, list(mine), limit + 1))
        jobs = await self.index.jobs_of(self.log, rows[:limit])
        holders = [
            Holder(row, queue_name(row.token), job, is_older(row.version, newest))
            for row in rows[:limit]
            # A stranger may have named the job of another queue, which is none of this queue's readers' business.
            if (job := jobs.get(row.job)) and job.token == row.token
        ]
        return Holders(holders, newest, rows[limit - 1].number if len(rows) > limit else None, as_of)
