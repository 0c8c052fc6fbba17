"""The output of jobs in the LOGS stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from stint.core.chain import Chunk
from stint.core.errors import LogGapError
from stint.core.subjects import (
    CHUNK_DIGEST,
    CHUNK_NUMBER,
    CHUNK_OFFSET,
    CHUNK_STREAM,
    LOGS,
    log_subject,
    tail_subject,
)
from stint.jetstream.answers import check, error_code
from stint.jetstream.broker import Broker, NoAnswerError
from stint.jetstream.events import NO_MESSAGE, WRONG_LAST_SEQUENCE
from stint.jetstream.messages import EXPECTED_SEQUENCE, Stored, raw_message, sequence_of
from stint.jetstream.subject_lists import places_held
from stint.jetstream.triggers import triggered
from stint.ports import Place

BATCH: Final = 64
"""Chunks that one read asks for."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Bytes that one read asks for."""


class JetStreamOutput:
    """See `stint.ports.OutputLog`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        headers = {
            CHUNK_NUMBER: str(chunk.number),
            CHUNK_OFFSET: str(chunk.offset),
            CHUNK_STREAM: chunk.stream,
            CHUNK_DIGEST: chunk.digest,
            EXPECTED_SEQUENCE: str(after),
        }
        try:
            answer = await self._broker.publish(log_subject(token, job_id), chunk.data, headers)
        except NoAnswerError:
            return await self._after_doubt(token, job_id, chunk, None)
        if error_code(answer) == WRONG_LAST_SEQUENCE:
            return await self._after_doubt(token, job_id, chunk, LogGapError())
        return int(check(answer)["seq"])

    async def _after_doubt(self, token: str, job_id: str, chunk: Chunk, refusal: LogGapError | None) -> int:
        """The sequence of this very chunk if an earlier attempt has stored it."""
        last = await self.last(token, job_id)
        if last is not None and (last.number, last.digest) == (chunk.number, chunk.digest):
            return last.sequence
        raise refusal or NoAnswerError()

    async def last(self, token: str, job_id: str) -> Chunk | None:
        answer = await self._broker.api(f"STREAM.MSG.GET.{LOGS}", {"last_by_subj": log_subject(token, job_id)})
        if error_code(answer) == NO_MESSAGE:
            return None
        return _chunk(raw_message(check(answer)["message"]))

    async def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        subject = log_subject(token, job_id)
        while True:
            request = {"seq": after + 1, "next_by_subj": subject, "batch": BATCH, "max_bytes": BATCH_BYTES}
            messages = await self._broker.direct_get(LOGS, request)
            if not messages:
                return
            for message in messages:
                if chunk := _chunk(message):
                    yield chunk
            after = sequence_of(messages[-1])

    @asynccontextmanager
    async def follow(self, token: str, job_id: str) -> AsyncIterator[asyncio.Event]:
        async with triggered(self._broker, tail_subject(token, job_id)) as changed:
            yield changed

    async def purge(self, token: str, job_id: str) -> None:
        check(await self._broker.api(f"STREAM.PURGE.{LOGS}", {"filter": log_subject(token, job_id)}))

    async def places(self) -> set[Place]:
        return await places_held(self._broker, LOGS, log_subject("*", "*"))


def _chunk(message: Stored) -> Chunk | None:
    """None for what a stranger has published there."""
    headers = message.headers or {}
    try:
        return Chunk(
            number=int(headers[CHUNK_NUMBER]),
            offset=int(headers[CHUNK_OFFSET]),
            stream=headers[CHUNK_STREAM],
            digest=headers[CHUNK_DIGEST],
            data=message.data,
            sequence=sequence_of(message),
        )
    except (KeyError, ValueError):
        return None
