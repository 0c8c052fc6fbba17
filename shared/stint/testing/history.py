"""The past of a log in memory."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime

from stint.core.events import Deleted, Ended, Rejected, Submitted
from stint.core.subjects import EventAddress
from stint.ports import Place, Strays
from stint.testing.memory import MemoryEventLog


class MemoryHistory:
    """See `stint.ports.History`.

    Attributes:
        taken: ids of jobs whose message has left its work queue.
        lagging: whether the work queues are behind the log.
    """

    def __init__(self, log: MemoryEventLog) -> None:
        self._log = log
        self.taken: set[str] = set()
        self.lagging = False

    async def survey(self, places: Iterable[Place]) -> Mapping[Place, str]:
        facts: defaultdict[Place, dict[str, str]] = defaultdict(dict)
        for record in self._log.records:
            facts[Place(record.token, record.job_id)][record.kind] = record.time
        return {
            place: facts[place].get(Ended.kind) or facts[place].get(Rejected.kind) or ""
            for place in places
            if Submitted.kind in facts[place] and Deleted.kind not in facts[place]
        }

    async def submitted(self) -> set[Place]:
        records = self._log.records
        return {Place(record.token, record.job_id) for record in records if record.kind == Submitted.kind}

    async def in_work(self) -> frozenset[str]:
        submitted = {record.job_id for record in self._log.records if record.kind == Submitted.kind}
        return frozenset(submitted - self.taken)

    async def strays(self) -> Strays | None:
        if self.lagging:
            return None
        of_kind: defaultdict[str, set[Place]] = defaultdict(set)
        for record in self._log.records:
            of_kind[record.kind].add(Place(record.token, record.job_id))
        over = of_kind[Ended.kind] | of_kind[Rejected.kind] | of_kind[Deleted.kind]
        taken = {place for place in of_kind[Submitted.kind] if place.job_id in self.taken}
        return Strays(missing=taken - over, over=(of_kind[Submitted.kind] - taken) & over)

    async def is_in_work(self, place: Place) -> bool:
        return EventAddress(Submitted.kind, *place).subject in self._log.stored and place.job_id not in self.taken

    async def take_from_work(self, place: Place) -> None:
        self.taken.add(place.job_id)

    async def older_than(self, moment: datetime) -> AsyncIterator[str]:
        for record in list(self._log.records):
            if datetime.fromisoformat(record.time) < moment:
                yield record.job_id

    async def forget_barriers(self) -> None:
        """A log in memory needs none."""

    async def forget(self, job_id: str, *, before: datetime) -> bool:
        mine = [record for record in self._log.records if record.job_id == job_id]
        if any(datetime.fromisoformat(record.time) >= before for record in mine):
            return False
        for record in mine:
            self._log.records.remove(record)
            del self._log.stored[EventAddress(record.kind, record.token, job_id).subject]
        return True
