"""A job's output at one moment: the stored chunks, and the text made of them, in limited memory."""

import asyncio
import codecs
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import structlog

from stint.core.errors import BrokerUnavailableError
from stint.core.events import Held
from stint.core.job import Job
from stint.core.output.chain import Chain, Chunk
from stint.core.view import back_since, parse_time
from stint.ports import OutputLog, Place
from stint_api.errors import RefusalError

log = structlog.get_logger()

STDOUT: Final = "stdout"
STDERR: Final = "stderr"

KEPT: Final = 1024 * 1024
"""Bytes of output that are kept in memory, so that a second pass over a small output asks NATS nothing."""
CHUNK_COST: Final = 512
"""Bytes that a kept chunk takes besides its data, about: the output may consist of single bytes."""
SETTLE_TRIES: Final = 20
SETTLE_PAUSE: Final = 0.1
"""How often, and how many seconds apart, chunks that the leader has are asked for: a replica may lag."""


def stream_of(chunk: Chunk) -> str:
    """What a terminal writes counts as stdout."""
    return STDERR if chunk.stream == STDERR else STDOUT


async def seen_back(output: OutputLog, job: Job) -> str | None:
    """Since when a held job's lost runner is back, None if nothing shows that it is; see `stint.core.view.back_since`.

    No event records it. Output that was removed shows nothing any more. It reads one message, if the job was held.
    """
    held = job.facts.get(Held.kind)
    if held is None:
        return None
    chunk = await output.first_since(job.token, job.job_id, parse_time(held.time))
    return back_since(job, chunk.time if chunk and chunk.number else "")


@dataclass
class _Seen:
    chunks: int = 0
    size: int = 0
    streams: set[str] = field(default_factory=set)
    chain: Chain = field(default_factory=Chain)
    gap: bool = False

    def add(self, chunk: Chunk) -> bool:
        """Count the next chunk; false, and nothing is counted, if it does not continue the chain of digests.

        Behind missing chunks the chain begins anew: the rest of the output is shown, and is not complete.
        """
        claimed, missing = Chain.through(chunk), chunk.number > self.chain.chunks + 1
        if not missing and claimed != self.chain.add(chunk.data):
            return False
        self.chain = claimed
        self.gap |= missing
        self.chunks += 1
        self.size += len(chunk.data)
        self.streams.add(stream_of(chunk))
        return True

    @property
    def weight(self) -> int:
        """Bytes that these chunks take in memory."""
        return self.size + CHUNK_COST * self.chunks


@dataclass(eq=False)
class Snapshot:
    """The chunks up to the last one there was when it was taken, in any number of passes that all give the same.

    Every pass raises `BrokerUnavailableError` when NATS is unavailable, and `RefusalError` when the output is deleted
    while it is read, or at a chunk that does not continue the chain of digests. Output that was deleted before any of
    it was read is empty.

    Attributes:
        until: sequence of its last message, 0 if there is none.
        announced: the whole output, as that message tells.
        recorded: the whole output, as the job's end says; None while it runs.
        lenient: a pass ends before a chunk that does not continue the chain, and raises nothing.
        after: sequence behind which the first chunk is.
        damage: what is wrong with the output, "" if nothing is or no pass has found it yet.
    """

    output: OutputLog
    place: Place
    until: int
    announced: Chain
    recorded: Chain | None
    lenient: bool
    after: int
    damage: str = ""
    _first: _Seen | None = None
    _kept: list[Chunk] | None = None

    @classmethod
    async def take(
        cls,
        output: OutputLog,
        token: str,
        job_id: str,
        *,
        recorded: Chain | None = None,
        lenient: bool = False,
        after: int = 0,
    ) -> "Snapshot":
        """The output as it stands now. Of one that is `recorded` the end is waited for, unless it is `lenient`.

        In a cluster, a server that was frozen may believe for a moment that it leads, and not know what came since.
        """
        wanted, tries = recorded.chunks if recorded and output.may_lag and not lenient else 0, 0
        last = await output.last(token, job_id)
        while (last.number if last else 0) < wanted and tries < SETTLE_TRIES:
            await asyncio.sleep(SETTLE_PAUSE)
            last, tries = await output.last(token, job_id), tries + 1
        until, announced = (last.sequence, Chain.through(last)) if last else (0, Chain())
        place = Place(token, job_id)
        return cls(output, place, until, announced, recorded=recorded, lenient=lenient, after=after)

    @property
    def size(self) -> int:
        """Bytes: counted by the first pass, and before it as the last chunk tells."""
        return self._first.size if self._first else self.announced.size

    @property
    def whole(self) -> bool:
        """Whether nothing is missing: as the first pass found, and before it as the last chunk tells."""
        if self.damage or (self._first and self._first.gap):
            return False
        return self.recorded in (None, self._first.chain if self._first else self.announced)

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """One pass."""
        if self._kept is not None:
            for chunk in self._kept:
                yield chunk
            return
        seen, kept = _Seen(), list[Chunk]()
        async for chunk in self._stored():
            if not seen.add(chunk):
                log.error("stored output is damaged", job=self.place.job_id, chunk=chunk.number)
                broken = f"chunk {chunk.number} does not continue the chain of digests"
                self.damage = f"The stored output is damaged: {broken}."
                if self.lenient:
                    break
                raise RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, self.damage)
            if seen.weight <= KEPT:
                kept.append(chunk)
            else:
                kept.clear()
            yield chunk
        if self._first and seen != self._first:
            raise _deleted()
        self._first = seen
        self._kept = kept if seen.weight <= KEPT else None

    async def text(self, stream: str = "") -> AsyncGenerator[str, None]:
        """One stream, or both as they came, each with a decoder of its own. Bytes that are not UTF-8 become U+FFFD."""
        if stream and self._first and stream not in self._first.streams:
            return
        decoders: dict[str, codecs.IncrementalDecoder] = {}
        async for chunk in self.chunks():
            source = stream_of(chunk)
            if stream and source != stream:
                continue
            if source not in decoders:
                decoders[source] = codecs.getincrementaldecoder("utf-8")("replace")
            yield decoders[source].decode(chunk.data)
        for decoder in decoders.values():
            yield decoder.decode(b"", final=True)

    async def _stored(self) -> AsyncGenerator[Chunk, None]:
        after, tries = self.after, 0
        while after < self.until:
            async for chunk in self.output.read(*self.place, after=after):
                if chunk.sequence > self.until:
                    return
                after, tries = chunk.sequence, 0
                if chunk.number:  # otherwise it is a stranger's
                    yield chunk
                if after == self.until:
                    return
            if not await self._settle(after, tries):
                return
            tries += 1

    async def _settle(self, after: int, tries: int) -> bool:
        """Wait for chunks that the leader has and a replica lacks. False if there are none any more."""
        last = await self.output.last(*self.place)
        if last is None or last.sequence < self.until:
            if after or self._first:
                raise _deleted()
            return False
        if tries == SETTLE_TRIES:
            raise BrokerUnavailableError("The output cannot be read to its end: a replica of NATS lags behind.")
        await asyncio.sleep(SETTLE_PAUSE)
        return True


def _deleted() -> RefusalError:
    return RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, "The output was deleted while it was read. Try again.")
