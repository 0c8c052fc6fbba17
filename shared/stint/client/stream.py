"""Follows live streams, whatever happens to the connection in between: a job's to its end."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec

from stint.client.errors import ApiError, ApiUnreachableError, OutputDiffersError
from stint.client.rest.api import JOBS, Api, Attempts, LiveEvent
from stint.client.results import Fact, JobEvent, JobResult, Output, Phase, read
from stint.core.events import Ended
from stint.core.output.chain import Chain

PATIENCE: Final = 120.0
"""Seconds for which a broken live stream is retried without any progress."""
TAIL: Final = 4096
"""Bytes at the end of the output that the result contains."""


async def follow(api: Api, job_id: str, *, tail: int | None = None) -> AsyncGenerator[JobEvent, None]:
    """The job's facts and output from the beginning, and at last its result.

    With `tail` the output begins with about so many last lines, and is not checked. Otherwise raises OutputDiffersError
    if it is not what the job's `ended` says; and in any case what `resumed` does.
    """
    followed, ended = _Followed(whole=tail is None), "Stint's live stream ended too early."
    async with aclosing(resumed(api, f"{JOBS}/{job_id}/events", ended=ended, tail=tail)) as events:
        async for event in events:
            if item := followed.take(event):
                yield item
            if isinstance(item, JobResult):
                return


async def resumed(api: Api, path: str, *, ended: str, **params: Any) -> AsyncGenerator[LiveEvent, None]:
    """The events of a live stream, without end: a broken one is resumed behind the last position.

    `ended` says what it means if the server itself has ended it. Raises ApiError if Stint refuses, or was unavailable
    for too long.
    """
    position, attempts = "", Attempts(PATIENCE)
    while True:
        failure: ApiError = ApiUnreachableError(ended)
        try:
            async with aclosing(api.events(path, after=position, **params)) as events:
                async for event in events:
                    if event.name == "refused":  # the answer to the next request says why, and whether that passes
                        break
                    # Without news there are pings, which show that Stint is there.
                    alive = event.name in {"", "hello"} or event.position not in {"", position}
                    position = event.position or position
                    yield event
                    if alive:  # counted from here: what the caller takes for an event is no time without Stint
                        attempts.progress()
        except ApiError as error:
            failure = error
        await attempts.next(failure)


class _Followed:
    """What has been received of a job."""

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._chain = Chain()
        self._tail = b""
        self._ended: Fact | None = None

    def take(self, event: LiveEvent) -> JobEvent | None:
        """The event with its fields; None for one that this version does not know."""
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
