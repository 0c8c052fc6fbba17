"""The log of events in memory."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

from stint.core.codec import encode, to_record
from stint.core.events import AnyEvent, Record, Submitted
from stint.core.job import Job, fold
from stint.core.names.subjects import EventAddress, bar_kind, names_job, unreadable_submission
from stint.ports import News, Outcome
from stint.testing.memory.triggers import Triggers


class MemoryEventLog:
    """See `stint.ports.EventLog`.

    Attributes:
        stored: their bodies, by subject.
        now: its clock.
    """

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

    async def job_ids(self) -> AsyncIterator[str]:
        for record in list(self.records):
            if record.kind == Submitted.kind:
                yield record.job_id

    async def record_rejection(self, stream_sequence: int, event: AnyEvent) -> Outcome:
        address = unreadable_submission(stream_sequence)
        return await self.append(address.token, address.job_id, event)

    def follow(self, job_id: str) -> AbstractAsyncContextManager[News]:
        return self._live.listen(job_id)

    def follow_kinds(self, token: str, job_id: str, *kinds: str) -> AbstractAsyncContextManager[News]:
        return self._live.listen(*(EventAddress(kind, token, job_id) for kind in kinds))
