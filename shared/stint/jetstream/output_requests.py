"""Reads output for publishers. They may not read the stream: such a request names its subjects in its body."""

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
from stint.jetstream.wire.fair import answer_fairly

log = structlog.get_logger()

GROUP: Final = "output"
"""The queue group in which APIs listen, so that one of them answers."""
OF_A_QUEUE: Final = 64
"""Requests about one queue that wait at a time."""
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

    async def run(self) -> None:
        await answer_fairly(self._broker, output_subject("*", "*", "*"), GROUP, self._answer, of_a_queue=OF_A_QUEUE)

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
