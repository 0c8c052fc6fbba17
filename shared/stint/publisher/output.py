"""The output of a published job: what is heard of it, and what an API reads again."""

from typing import Final

from stint.client.job import TAIL
from stint.core.errors import BrokerUnavailableError, StintError
from stint.core.names.headers import REFUSED, SEQUENCE
from stint.core.names.streams import LOGS
from stint.core.names.subjects import log_subject, output_subject
from stint.core.output.chain import Chain, Chunk
from stint.jetstream import Broker
from stint.jetstream.output import chunk_in

KEPT_BYTES: Final = 8 * 1024 * 1024
"""Of what was heard. What is forgotten is read again, if it is still needed."""
ASKED: Final = 2.0
"""Seconds for which an API's answer is awaited. An API that is asked for too much drops requests: then ask again."""
CHUNK_COST: Final = 1024
"""Bytes that a chunk takes besides its data."""


class OutputMissedError(StintError):
    """Some of the output was missed, and could not be read again. The job has ended."""


class HeardOutput:
    """The chunks of a job's output that were `heard`, by their numbers up to `newest`, for any number of readers.

    `why` says why an API did not give the chunk that it was last asked for.
    """

    def __init__(self, broker: Broker, token: str, job_id: str) -> None:
        self._broker, self._place = broker, (token, job_id)
        self._bytes = 0
        self.heard: dict[int, Chunk] = {}
        self.newest = 0
        self.why = ""

    def hear(self, chunk: Chunk) -> None:
        """Keep a chunk; forget the ones that were heard first if there are too many."""
        self.newest = max(self.newest, chunk.number)
        if chunk.number and chunk.number not in self.heard:
            self.heard[chunk.number] = chunk
            self._bytes += _cost(chunk)
        while self._bytes > KEPT_BYTES:
            self._bytes -= _cost(self.heard.pop(next(iter(self.heard))))

    async def hear_last(self) -> None:
        """The last chunk, from the stream: it shows whether others were missed, and an API is not needed for it.

        Raises BrokerUnavailableError if NATS does not answer.
        """
        if message := await self._broker.direct_last(LOGS, log_subject(*self._place)):
            self.hear(chunk_in(message))

    async def read(self, sequence: int) -> Chunk | None:
        """The next chunk behind this sequence, through an API. Strangers' messages are passed over."""
        while True:
            try:
                answer = await self._broker.request(output_subject(*self._place, sequence), wait=ASKED)
            except BrokerUnavailableError:
                self.why = "No API answers."
                return None
            headers = answer.headers or {}
            self.why = headers.get(REFUSED, "")
            if SEQUENCE not in headers:
                return None
            chunk = chunk_in(answer)
            if chunk.number:
                return chunk
            sequence = chunk.sequence


class OutputReader:
    """Reads an output from its beginning, each chunk once."""

    def __init__(self, output: HeardOutput) -> None:
        self.chain, self.tail = Chain(), b""
        self._output, self._sequence = output, 0

    async def next(self, *, total: int) -> Chunk | None:
        """The next chunk, None if it cannot be read now. `total` is how many the job's end says, 0 before."""
        chunk = self._output.heard.get(self.chain.chunks + 1)
        if not self._is_next(chunk) and self.chain.chunks < max(total, self._output.newest):
            chunk = await self._output.read(self._sequence)
        if chunk is None or not self._is_next(chunk):
            return None
        self.chain, self._sequence = self.chain.add(chunk.data), chunk.sequence
        self.tail = (self.tail + chunk.data)[-TAIL:]
        return chunk

    def _is_next(self, chunk: Chunk | None) -> bool:
        return chunk is not None and self.chain.add(chunk.data) == Chain.through(chunk)

    @property
    def lacks(self) -> bool:
        """Whether a later chunk was heard than those that were read."""
        return self.chain.chunks < self._output.newest

    def missed(self) -> OutputMissedError:
        """Why there is no next chunk."""
        sentence = f"Chunk {self.chain.chunks + 1} of the output was missed, and cannot be read again."
        return OutputMissedError(f"{sentence} {self._output.why}".strip())


def _cost(chunk: Chunk) -> int:
    return CHUNK_COST + len(chunk.data)
