"""The past of a log in memory."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime

from stint.core.events import Deleted, Ended, Rejected, Submitted
from stint.core.names.subjects import EventAddress
from stint.ports import Fact, Place, Strays
from stint.testing.memory.events import MemoryEventLog
from stint.testing.memory.payloads import MemoryPayloads


class MemoryHistory:
    """See `stint.ports.History`.

    Attributes:
        taken: ids of jobs whose message has left its work queue.
        lagging: whether the work queues are behind the log.
    """

    def __init__(self, log: MemoryEventLog, payloads: MemoryPayloads) -> None:
        self._log = log
        self._payloads = payloads
        self.taken: set[str] = set()
        self.lagging = False

    async def survey(self, job_ids: Collection[str]) -> Mapping[Place, str]:
        facts: defaultdict[Place, dict[str, str]] = defaultdict(dict)
        for record in self._log.records:
            if record.job_id in job_ids:
                facts[Place(record.token, record.job_id)][record.kind] = record.time
        return {
            place: found.get(Ended.kind) or found.get(Rejected.kind) or ""
            for place, found in facts.items()
            if Submitted.kind in found and Deleted.kind not in found
        }

    async def facts(self, kind: str, *, after: int, since: datetime) -> Sequence[Fact]:
        records = [record for record in self._log.records if record.kind == kind and record.sequence > after]
        facts = [Fact(record.job_id, record.sequence, datetime.fromisoformat(record.time)) for record in records]
        return [fact for fact in facts if after or fact.time >= since]

    async def in_work(self) -> set[Place]:
        """The places whose submission is in a work queue."""
        records = self._log.records
        submitted = {Place(record.token, record.job_id) for record in records if record.kind == Submitted.kind}
        return {place for place in submitted if place.job_id not in self.taken}

    async def strays(self) -> Strays | None:
        if self.lagging:
            return None
        stored, in_work = await self._payloads.places(), await self.in_work()
        return Strays(missing=stored - in_work, over=in_work - stored)

    async def is_in_work(self, place: Place) -> bool:
        return EventAddress(Submitted.kind, *place).subject in self._log.stored and place.job_id not in self.taken

    async def is_waiting(self, job_id: str) -> bool:
        return any(place.job_id == job_id for place in await self.in_work())

    async def take_from_work(self, place: Place) -> None:
        self.taken.add(place.job_id)

    async def remove_acknowledged(self, token: str) -> None:
        """In memory nobody acknowledges what he does not take."""

    async def older_than(self, moment: datetime) -> AsyncIterator[str]:
        for record in list(self._log.records):
            if datetime.fromisoformat(record.time) < moment:
                yield record.job_id

    async def forget_unnamed(self, before: datetime) -> None:
        """A log in memory has nothing of the kind."""

    async def forget(self, job_id: str, *, before: datetime) -> bool:
        mine = [record for record in self._log.records if record.job_id == job_id]
        if any(datetime.fromisoformat(record.time) >= before for record in mine):
            return False
        for record in mine:
            self._log.records.remove(record)
            del self._log.stored[EventAddress(record.kind, record.token, job_id).subject]
        return True
