"""Reads output for publishers. They may not read the stream: such a request names its subjects in its body."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import structlog
from nats.aio.msg import Msg

from stint.core.errors import BrokerUnavailableError, StintError
from stint.core.names.headers import REFUSED, SEQUENCE, TIME
from stint.core.names.ids import is_job_id, is_queue_token
from stint.core.names.subjects import output_subject
from stint.jetstream.output import JetStreamOutput, headers_of
from stint.jetstream.wire.broker import Broker

log = structlog.get_logger()

GROUP: Final = "output"
"""The queue group in which APIs listen, so that one of them answers."""
AT_A_TIME: Final = 32
"""Requests for which the stream is asked."""
OF_A_QUEUE: Final = 64
"""Requests of one queue that wait for that; more are dropped, because a refusal of each would keep the API busy. Any
publisher can send them, and whoever gets no answer asks again."""
OF_ALL: Final = 1024
"""The same of all queues: as many are answered in a second, before their senders give up."""
_DIGITS: Final = 19
"""Of a sequence."""


class OutputRequests:
    """Answers each request for the next chunk of a job's output behind a sequence, which is part of its subject.

    The answer is the chunk, with its headers, sequence and time in the stream, or a sentence under `REFUSED`.
    NATS permits a publisher the subjects of its queues, and only what the subject names is read.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._output = JetStreamOutput(broker)
        self._free = asyncio.Semaphore(AT_A_TIME)
        self._waiting = Counter[str]()  # requests without an answer, by queue

    async def run(self) -> None:
        await self._broker.wait_connected()
        async with asyncio.TaskGroup() as group:

            async def on_request(message: Msg) -> None:
                token = message.subject.split(".")[1]
                if self._waiting[token] < OF_A_QUEUE and self._waiting.total() < OF_ALL:
                    self._waiting[token] += 1
                    group.create_task(self._in_turn(message, token))

            async with self._broker.subscribe(output_subject("*", "*", "*"), queue=GROUP, cb=on_request):
                await asyncio.get_running_loop().create_future()

    async def _in_turn(self, message: Msg, token: str) -> None:
        try:
            async with self._free:
                await self._answer(message)
        finally:
            self._waiting -= Counter([token])

    async def _answer(self, message: Msg) -> None:
        try:
            data, headers = await self._read(message)
        except StintError as error:
            data, headers = b"", _refusal(error.sentence)
        except Exception:  # one request must not end the service
            log.exception("a request for output could not be answered")
            return
        with suppress(BrokerUnavailableError):  # whoever asked will ask again
            await self._broker.send(message.reply, data, headers=headers)

    async def _read(self, message: Msg) -> tuple[bytes, Mapping[str, str]]:
        _, token, job_id, after = message.subject.split(".")
        if not (is_queue_token(token) and is_job_id(job_id) and after.isascii() and after.isdecimal()):
            return b"", _refusal("The subject names no queue, job and sequence.")
        chunk = await self._output.next(token, job_id, after=int(after[:_DIGITS]))
        if chunk is None:
            return b"", _refusal("There is no such chunk.")
        return chunk.data, headers_of(chunk) | {SEQUENCE: str(chunk.sequence), TIME: chunk.time}


def _refusal(sentence: str) -> Mapping[str, str]:
    return {REFUSED: sentence}
