"""The output of jobs in the LOGS stream, and how it is read for publishers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final

from nats.aio.msg import Msg

from stint.core.errors import LogGapError, StintError
from stint.core.names.headers import (
    CHUNK_CONTINUES,
    CHUNK_DIGEST,
    CHUNK_LINE,
    CHUNK_NUMBER,
    CHUNK_OFFSET,
    CHUNK_STREAM,
    REFUSED,
    SEQUENCE,
    TIME,
)
from stint.core.names.ids import is_job_id, is_queue_token
from stint.core.names.streams import LOGS
from stint.core.names.subjects import log_subject, output_subject, tail_subject
from stint.core.output.chain import Chunk
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.fair import answer_fairly
from stint.jetstream.wire.protocol import (
    EXPECTED_SEQUENCE,
    ErrorCode,
    NoAnswerError,
    Stored,
    check,
    error_code,
    sequence_of,
)
from stint.ports import News, Place
from stint.process.budget import Budget

GROUP: Final = "output"  # the queue group in which APIs listen, so that one of them answers
UNDER_WAY: Final = 256 * 1024  # bytes at a time: leases are renewed behind them, and more are late at 0.7 Mbit/s
OF_A_QUEUE: Final = 64  # requests about one queue that wait at a time
_DIGITS: Final = 19  # of a sequence
_TOO_LARGE: Final = 1 << 63  # for a number, an offset or a line


class JetStreamOutput:
    """See `stint.ports.OutputLog`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._logs = Stream(broker, LOGS)
        self._under_way = Budget(UNDER_WAY)

    @property
    def may_lag(self) -> bool:
        return self._broker.several

    async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        headers = headers_of(chunk) | {EXPECTED_SEQUENCE: str(after)}
        failure: StintError = LogGapError()
        try:
            async with self._under_way.part(len(chunk.data)):
                answer = await self._broker.publish(log_subject(token, job_id), chunk.data, headers)
            if error_code(answer) != ErrorCode.WRONG_LAST_SEQUENCE:
                return int(check(answer)["seq"])
        except NoAnswerError:
            failure = NoAnswerError()
        last = await self.last(token, job_id)
        if last is not None and (last.number, last.digest) == (chunk.number, chunk.digest):
            return last.sequence  # an earlier attempt has stored it
        raise failure

    async def last(self, token: str, job_id: str) -> Chunk | None:
        message = await self._logs.last(log_subject(token, job_id))
        return chunk_in(message) if message else None

    async def next(self, token: str, job_id: str, *, after: int) -> Chunk | None:
        message = await self._logs.get({"seq": after + 1, "next_by_subj": log_subject(token, job_id)})
        return chunk_in(message) if message else None

    async def first_since(self, token: str, job_id: str, moment: datetime) -> Chunk | None:
        messages = await self._logs.page(log_subject(token, job_id), since=moment, size=1)
        return chunk_in(messages[0]) if messages else None

    async def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        async for messages in self._logs.pages(log_subject(token, job_id), after=after):
            for message in messages:
                yield chunk_in(message)

    def follow(self, token: str, job_id: str) -> AbstractAsyncContextManager[News]:
        return self._broker.news_on(tail_subject(token, job_id))

    async def purge(self, token: str, job_id: str) -> None:
        await self._logs.purge(log_subject(token, job_id))

    def places(self) -> AsyncIterator[set[Place]]:
        return self._logs.places(log_subject("*", "*"))


async def serve_output(broker: Broker) -> None:
    """Answer publishers' requests for the next chunk of a job's output behind a sequence, until cancelled.

    The answer is the chunk, with its headers, sequence and time in the stream, or a sentence under `REFUSED`. Queue,
    job and sequence are in the request's subject, which NATS permits or not: a read of the stream itself names them in
    its body.
    """
    output = JetStreamOutput(broker)

    async def answer(message: Msg) -> None:
        try:
            data, headers = await _requested(output, message.subject)
        except StintError as error:
            data, headers = b"", {REFUSED: error.sentence}
        await broker.send(message.reply, data, headers=headers)

    await answer_fairly(broker, output_subject("*", "*", "*"), GROUP, answer, of_a_queue=OF_A_QUEUE)


async def _requested(output: JetStreamOutput, subject: str) -> tuple[bytes, Mapping[str, str]]:
    _, token, job_id, after = subject.split(".")
    if not (is_queue_token(token) and is_job_id(job_id) and after.isascii() and after.isdecimal()):
        return b"", {REFUSED: "The subject names no queue, job and sequence."}
    chunk = await output.next(token, job_id, after=int(after[:_DIGITS]))
    if chunk is None:
        return b"", {REFUSED: "There is no such chunk."}
    return chunk.data, headers_of(chunk) | {SEQUENCE: str(chunk.sequence), TIME: chunk.time}


def headers_of(chunk: Chunk) -> dict[str, str]:
    """What a message with this chunk says of it."""
    return {
        CHUNK_NUMBER: str(chunk.number),
        CHUNK_OFFSET: str(chunk.offset),
        CHUNK_STREAM: chunk.stream,
        CHUNK_DIGEST: chunk.digest,
        CHUNK_LINE: str(chunk.line),
    } | ({CHUNK_CONTINUES: "1"} if chunk.continues else {})


def chunk_in(message: Stored) -> Chunk:
    """The chunk in a message; number 0 if it is no chunk, because anybody may publish there."""
    headers, sequence = message.headers or {}, sequence_of(message)
    none = Chunk(number=0, offset=0, stream="", digest="", data=b"", sequence=sequence)
    try:
        chunk = Chunk(
            number=int(headers[CHUNK_NUMBER]),
            offset=int(headers[CHUNK_OFFSET]),
            stream=headers[CHUNK_STREAM],
            digest=headers[CHUNK_DIGEST],
            data=message.data,
            sequence=sequence,
            time=headers[TIME],
            line=int(headers.get(CHUNK_LINE, 0)),
            continues=CHUNK_CONTINUES in headers,
        )
    except (KeyError, ValueError):
        return none
    possible = 0 < chunk.number < _TOO_LARGE and 0 <= chunk.offset < _TOO_LARGE and 0 <= chunk.line < _TOO_LARGE
    return chunk if possible else none
