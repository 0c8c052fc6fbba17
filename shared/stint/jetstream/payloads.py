"""Sealed payloads in the PAYLOADS stream, and copies of them in KEPT."""

import asyncio
import hashlib
import re
from collections.abc import Collection
from functools import partial
from typing import Final

from stint.core.errors import PayloadMissingError, UndecodableError
from stint.core.names.streams import KEPT, PAYLOADS
from stint.core.names.subjects import kept_subject, payload_subject
from stint.jetstream.streams.consistency import ANSWER, across_elections
from stint.jetstream.streams.stream import ALL, Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import (
    EXPECTED_SEQUENCE,
    NOT_FIRST,
    ErrorCode,
    NoAnswerError,
    check,
    error_code,
    lifetime,
    sequence_of,
    time_of,
)
from stint.ports import Place, Stamp
from stint.process.waiting import for_each

CHUNK_BYTES: Final = 512 * 1024  # a chunk's size: half of what a NATS server takes by default
MAX_CHUNKS: Final = 128  # of a payload: 64 MiB, twice what Vault takes
_ATTEMPT: Final = re.compile("[0-9A-Za-z_-]{0,64}")

MANY: Final = 16  # places for which it pays to look first which have a payload: a projector may see events again
LISTED: Final = 50  # stored chunks that can be listed in the time of one purge of nothing
CONCURRENCY: Final = 16  # purges at a time
READS: Final = 2  # chunks under way at a time: leases are renewed behind them, and 1 MiB takes 0.8 s at 10 Mbit/s
CHUNK_WAIT: Final = 10.0  # seconds for a chunk, with another one before it: enough at 1 Mbit/s


class JetStreamPayloads:
    """See `stint.ports.PayloadStore`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._payloads = Stream(broker, PAYLOADS)
        self._reads = asyncio.Semaphore(READS)

    @property
    def may_lag(self) -> bool:
        return self._broker.several

    async def put(self, token: str, job_id: str, sealed: bytes, *, attempt: str = "") -> int:
        chunks = _chunks(sealed)
        for number, chunk in enumerate(chunks):
            write = partial(self._put_chunk, payload_subject(token, job_id, number, attempt), chunk)
            await across_elections(self._broker, write)
        return len(chunks)

    async def _put_chunk(self, subject: str, chunk: bytes) -> None:
        answer = await self._broker.publish(subject, chunk, None, ANSWER)
        # Taken: by an earlier try of this very job. If by anybody else, the payload will not match its ticket.
        if error_code(answer) not in NOT_FIRST:
            check(answer)
        elif await self._payloads.last(subject, ANSWER) is None:  # being replicated, and may get lost there
            raise NoAnswerError

    async def get(self, token: str, job_id: str, chunks: int, *, attempt: str = "") -> bytes:
        if chunks > MAX_CHUNKS:
            raise UndecodableError(f"A payload has at most {MAX_CHUNKS} chunks.")
        if not _ATTEMPT.fullmatch(attempt):  # it becomes a part of a line to the server, which closes too long ones
            raise UndecodableError("The payload's prefix is not up to 64 letters, digits, hyphens and underscores.")
        parts = list[bytes]()
        for number in range(chunks):
            subject = payload_subject(token, job_id, number, attempt)
            async with self._reads:
                message = await self._broker.direct_last(PAYLOADS, subject, CHUNK_WAIT)
            if message is None:
                raise PayloadMissingError(f"The payload has {number} of its {chunks} chunks.")
            if len(message.data) > CHUNK_BYTES:
                raise UndecodableError(f"A chunk of a payload has at most {CHUNK_BYTES} bytes.")
            parts.append(message.data)
        return b"".join(parts)

    async def purge(self, token: str, job_id: str, *, through: int | None = None) -> None:
        await self._payloads.purge(payload_subject(token, job_id, ALL), through=through)

    async def purge_all(self, places: Collection[Place]) -> None:
        if len(places) >= MANY:
            stored = (await self._payloads.info())["state"].get("num_subjects", 0)
            if stored <= LISTED * len(places):
                places = set(places) & await self.places()
        await for_each(places, lambda place: self.purge(*place), at_once=CONCURRENCY)

    async def places(self) -> set[Place]:
        found = self._payloads.places(payload_subject("*", "*", ALL))
        return {place async for places in found for place in places}

    async def newest(self, token: str, job_id: str) -> Stamp | None:
        message = await self._payloads.last(payload_subject(token, job_id, ALL), ANSWER)
        return Stamp(sequence_of(message), time_of(message)) if message else None


class JetStreamKept:
    """See `stint.ports.KeptPayloads`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._kept = Stream(broker, KEPT)

    async def keep(self, token: str, job_id: str, digest: str, sealed: bytes, *, seconds: float) -> None:
        for number, chunk in enumerate(_chunks(sealed)):
            subject = kept_subject(token, job_id, digest, number)
            answer = await self._broker.publish(subject, chunk, {EXPECTED_SEQUENCE: "0", **lifetime(seconds)})
            # By an earlier attempt with the same bytes: their digest is in the subject, and is checked on reading.
            check(answer, ErrorCode.WRONG_LAST_SEQUENCE)

    async def get(self, token: str, job_id: str, digest: str, size: int) -> bytes:
        chunks = -(-size // CHUNK_BYTES)
        found = bytearray()
        for number in range(min(chunks, MAX_CHUNKS)):
            message = await self._kept.last(kept_subject(token, job_id, digest, number))
            if message is None:
                break
            found += message.data
        if len(found) != size or hashlib.sha256(found).hexdigest() != digest:
            raise UndecodableError("The payload is not kept.")
        return bytes(found)

    async def purge(self, token: str, job_id: str) -> None:
        await self._kept.purge(kept_subject(token, job_id, "*", "*"))


def _chunks(sealed: bytes) -> list[bytes]:
    return [sealed[start : start + CHUNK_BYTES] for start in range(0, len(sealed), CHUNK_BYTES)]
