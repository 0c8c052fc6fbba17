"""The log of events in memory, its past, and what runners say."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime

from stint.core.codec import encode, to_record
from stint.core.events import AnyEvent, Deleted, Ended, Record, Rejected, Submitted
from stint.core.job import Job, fold
from stint.core.names.subjects import EventAddress, bar_kind, names_job
from stint.core.phase import JobPhase
from stint.ports import Fact, News, Outcome, PhaseReport, Place, Strays
from stint.testing.memory.stores import MemoryPayloads, Triggers


class MemoryEventLog:
    """See `stint.ports.EventLog`. `stored` has the bodies, by subject."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.records: list[Record] = []
        self.stored: dict[str, bytes] = {}
        self._sequence = 0
        self.now = now
        self._live: Triggers[str | EventAddress] = Triggers()

    async def append(
        self, token: str, job_id: str, *events: AnyEvent, after: int | None = None, unless: str = ""
    ) -> Outcome:
        for event in events:
            address, body = EventAddress(event.kind, token, job_id), encode(event)
            if address.subject not in self.stored:
                if after is not None and after != self._last_sequence(token, job_id):
                    return Outcome.LOST
                if unless and EventAddress(unless, token, job_id).subject in self.stored:
                    return Outcome.LOST
                self.put(address, body)
            elif self.stored[address.subject] != body:
                return Outcome.LOST
            if after is not None:
                after = self._last_sequence(token, job_id, event.kind)
        return Outcome.WON

    def put(self, address: EventAddress, body: bytes) -> None:
        """Store any bytes, as a stranger with the right to publish could."""
        self._sequence += 1
        record = to_record(address, body, sequence=self._sequence, time=self.now().isoformat())
        self.stored[address.subject] = body
        self.records.append(record)
        self._live.fire(address.job_id, self._sequence)
        self._live.fire(address, self._sequence)

    async def bar(self, token: str, job_id: str, *, after: int) -> bool:
        if after != self._last_sequence(token, job_id):
            return False
        self.put(EventAddress(bar_kind(str(self._sequence)), token, job_id), b"")
        return True

    def _last_sequence(self, token: str, job_id: str, kind: str = "") -> int:
        mine = (record for record in self.records if (record.token, record.job_id) == (token, job_id))
        return max((record.sequence for record in mine if kind in {"", record.kind}), default=0)

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:  # noqa: ARG002 - never behind
        mine = (record for record in self.records if record.job_id == job_id)
        return fold(record for record in mine if names_job(EventAddress(record.kind, record.token, job_id).subject))

    async def current(self, job_id: str) -> Job | None:
        return await self.load(job_id)

    async def job_ids(self) -> AsyncIterator[str]:
        for record in list(self.records):
            if record.kind == Submitted.kind:
                yield record.job_id

    def follow(self, job_id: str) -> AbstractAsyncContextManager[News]:
        return self._live.listen(job_id)

    def follow_kinds(self, token: str, job_id: str, *kinds: str) -> AbstractAsyncContextManager[News]:
        return self._live.listen(*(EventAddress(kind, token, job_id) for kind in kinds))


class MemoryHistory:
    """See `stint.ports.History`. `taken` are jobs whose message has left its work queue; these may be `lagging`."""

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
        return place in await self.in_work()

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


class MemoryPhases:
    """See `stint.ports.PhaseChannel`."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[PhaseReport]] = set()
        self.heard = asyncio.Event()

    async def tell(self, place: Place, phase: JobPhase) -> None:
        for listener in self._listeners:
            listener.put_nowait(PhaseReport(place, phase))

    @asynccontextmanager
    async def hear(self) -> AsyncIterator[AsyncIterator[PhaseReport]]:
        listener: asyncio.Queue[PhaseReport] = asyncio.Queue()
        self._listeners.add(listener)
        self.heard.set()
        try:
            yield _reports(listener)
        finally:
            self._listeners.discard(listener)


async def _reports(listener: "asyncio.Queue[PhaseReport]") -> AsyncIterator[PhaseReport]:
    while True:
        yield await listener.get()
