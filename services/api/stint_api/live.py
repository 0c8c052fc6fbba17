"""A job's facts and output: all so far, then as they come, without gap or repeat."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import structlog

from stint.errors import BrokerUnavailableError
from stint.eventlog import Chunk, EventLog, OutputLog
from stint.events import Ended, Launched, Record, Started
from stint.job import Job, State, evolve, fold
from stint_api import sse
from stint_api.inbox import Inbox
from stint_api.output import SETTLE_PAUSE, SETTLE_TRIES

log = structlog.get_logger()

TICK: Final = 10.0
"""Seconds without news after which a ping is sent, and the log is read again: a live message can be lost."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a client has read, as the `id` of its last event says.

    Attributes:
        fact: sequence of the last fact in EVENTS.
        output: sequence of the last chunk in LOGS.
        number: of that chunk.
    """

    fact: int = 0
    output: int = 0
    number: int = 0

    def __str__(self) -> str:
        return f"{self.fact}-{self.output}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """From the beginning, if this is no position."""
        parts = text.split("-")
        good = len(parts) == 3 and all(part.isascii() and part.isdecimal() and len(part) < 20 for part in parts)  # noqa: PLR2004 - three numbers of 64 bits
        return cls(*map(int, parts)) if good else cls()


class LiveJob:
    """One client's stream of one job."""

    def __init__(
        self,
        log: EventLog,
        output: OutputLog,
        job: Job,
        position: Position,
        *,
        render: Callable[[Job], Mapping[str, Any]],
    ) -> None:
        """`render` gives the job's view for the final event."""
        self._log = log
        self._output = output
        self._job = job
        self._render = render
        self._records: dict[str, Record] = {}
        self._fact, self._sequence, self._number = position.fact, position.output, position.number

    async def events(self, closing: asyncio.Event) -> AsyncGenerator[bytes, None]:
        """Encoded events, up to `end`; or up to the server's own end, without one."""
        async with AsyncExitStack() as stack:
            inbox: Inbox[Record | Chunk] = Inbox()
            # Listening begins before reading, so that nothing falls in between.
            facts = await stack.enter_async_context(self._log.follow(self._job.job_id))
            chunks = await stack.enter_async_context(self._output.tail(self._job.token, self._job.job_id))
            await stack.enter_async_context(inbox.filled_from(facts, chunks, until=closing))
            async for item in self._catch_up():
                yield item
            while not self._job.terminal and not inbox.closed:
                news = await inbox.get(TICK)
                async for item in self._take(news):
                    yield item
        if self._job.terminal:
            yield self._event("end", self._render(self._job))

    async def _take(self, news: Record | Chunk | None) -> AsyncIterator[bytes]:
        """What one live message gives rise to. None: nothing came for a while, or some were dropped."""
        if isinstance(news, Chunk) and news.number <= self._number + 1:
            if news.number == self._number + 1:
                yield self._chunk(news)
            return
        if isinstance(news, Record) and news.token == self._job.token:
            self._records[news.kind] = news
        if news is None:
            yield sse.PING
        async for item in self._catch_up():
            yield item

    async def _catch_up(self) -> AsyncIterator[bytes]:
        """All that is new in the log and the output. While NATS is away there is nothing new."""
        try:
            await self._reload()
            for item in self._new_facts(ended=False):
                yield item
            async for chunk in self._new_chunks():
                yield self._chunk(chunk)
        except BrokerUnavailableError as error:
            log.debug("the live stream waits for NATS", job=self._job.job_id, error=error.sentence)
            return
        for item in self._new_facts(ended=True):
            yield item

    async def _reload(self) -> None:
        loaded = await self._log.load(self._job.job_id)
        known = {**self._records, **(loaded.facts if loaded else {})}
        self._job = fold(known.values()) or self._job

    async def _new_chunks(self) -> AsyncIterator[Chunk]:
        async for chunk in self._read():
            yield chunk
        if not self._job.terminal:
            return
        for _ in range(SETTLE_TRIES):
            last = await self._output.last(self._job.token, self._job.job_id)
            if last is None or last.number <= self._number:
                return
            await asyncio.sleep(SETTLE_PAUSE)
            async for chunk in self._read():
                yield chunk

    async def _read(self) -> AsyncIterator[Chunk]:
        async for chunk in self._output.read(self._job.token, self._job.job_id, after=self._sequence):
            if chunk.number > self._number:
                yield chunk

    def _new_facts(self, *, ended: bool) -> Iterator[bytes]:
        """The end comes after the last output."""
        job: Job | None = None
        for record in sorted(self._job.facts.values(), key=lambda record: record.sequence):
            job = evolve(job, record)
            if job is None or (job.terminal and not ended):
                return
            if record.sequence > self._fact:
                self._fact = record.sequence
                yield self._event("fact", fact(record, job.state))

    def _chunk(self, chunk: Chunk) -> bytes:
        self._sequence, self._number = chunk.sequence, chunk.number
        data = base64.b64encode(chunk.data).decode()
        return self._event(
            "output", {"number": chunk.number, "offset": chunk.offset, "stream": chunk.stream, "data": data}
        )

    def _event(self, name: str, data: Mapping[str, Any]) -> bytes:
        position = Position(self._fact, self._sequence, self._number)
        return sse.event(name, data, event_id=str(position))


def fact(record: Record, state: State) -> dict[str, Any]:
    """A fact as clients see it: when the stream took it, what the job was then, and a few words of its own."""
    event = record.event
    own: dict[str, Any] = {}
    match event:
        case Started():
            own = {"runner": event.runner}
        case Launched():
            own = {"container_id": event.container_id, "container_image": event.container_image}
        case Ended():
            own = {"reason": event.reason, "error": event.error, "return_code": event.return_code}
    by = event.by if event else ""
    return {
        "kind": record.kind,
        "at": record.time,
        "sequence": record.sequence,
        "status": state.value,
        "by": by,
        **own,
    }
