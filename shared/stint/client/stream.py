"""Follows a job to its end, whatever happens to the connection in between."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec

from stint.client.errors import ApiError, ApiUnreachableError, OutputDiffersError
from stint.client.rest.api import Api, Attempts, LiveEvent
from stint.client.results import Fact, JobEvent, JobResult, Output, Phase, read
from stint.core.events import Ended
from stint.core.output.chain import Chain

PATIENCE: Final = 120.0
"""Seconds for which a broken live stream is retried without any progress."""
TAIL: Final = 4096
"""Bytes at the end of the output that the result contains."""


async def follow(api: Api, job_id: str, *, tail: int | None = None) -> AsyncGenerator[JobEvent, None]:
    """The job's facts and output from the beginning, and at last its result. A broken stream is resumed.

    With `tail` the output begins with about so many last lines, and is not checked.

    Raises:
        OutputDiffersError: the output that was received differs from what the job's `ended` says.
        ApiError: Stint refuses, or was unavailable for too long.
    """
    followed, attempts = _Followed(whole=tail is None), Attempts(PATIENCE)
    while True:
        before = followed.position
        failure: ApiError = ApiUnreachableError("Stint's live stream ended too early.")
        try:
            async with aclosing(api.events(f"/v1/api/job/{job_id}/events", after=before, tail=tail)) as events:
                async for event in events:
                    if not event.name:  # a ping: the job says nothing, and Stint is there
                        attempts.progress()
                    if item := followed.take(event):
                        yield item
                    if isinstance(item, JobResult):
                        return
        except ApiError as error:
            failure = error
        if followed.position != before:
            attempts.progress()
        await attempts.next(failure)


class _Followed:
    """What has been received of a job."""

    def __init__(self, *, whole: bool) -> None:
        self.position = ""
        self._whole = whole
        self._chain = Chain()
        self._tail = b""
        self._ended: Fact | None = None

    def take(self, event: LiveEvent) -> JobEvent | None:
        """The event with its fields; None for one that this version does not know."""
        self.position = event.position or self.position
        match event.name:
            case "output":
                output = read(event.data, Output)
                self._chain = self._chain.add(output.data)
                self._tail = (self._tail + output.data)[-TAIL:]
                return output
            case "fact":
                fact = read(event.data, Fact)
                if fact.kind == Ended.kind:
                    self._ended = fact
                return fact
            case "phase":
                return read(event.data, Phase)
            case "end":
                result = msgspec.structs.replace(read(event.data, JobResult), tail=self._tail)
                self._verify(result)
                return result
        return None

    def _verify(self, result: JobResult) -> None:
        """If the output is said to be complete, check each byte and their order against the job's `ended`."""
        end = self._ended
        if not self._whole or end is None or end.output_digest is None or not result.output_complete:
            return
        if self._chain != Chain(end.output_chunks, end.output_bytes, end.output_digest):
            raise OutputDiffersError
