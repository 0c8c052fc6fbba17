"""One job: what can be done with it, and how its live stream is followed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, BinaryIO, Final, Literal

import msgspec

from stint.client.errors import ApiError, ApiUnreachableError, OutputDiffersError
from stint.client.rest.api import JOBS, Api, Attempts
from stint.client.rest.live import LiveEvent
from stint.client.results import Fact, JobEvent, JobInfo, JobResult, Output, Phase, read
from stint.core.events import Ended
from stint.core.names.ids import check_job_id
from stint.core.output.chain import Chain

PATIENCE: Final = 120.0
"""Seconds for which a broken live stream is retried without any progress."""
TAIL: Final = 4096
"""Bytes at the end of the output that the result contains."""


async def resumed(api: Api, path: str, *, ended: str, **params: Any) -> AsyncGenerator[LiveEvent, None]:
    """The events of a live stream, without end: a broken one is resumed behind the last position.

    `ended` says what it means if the server itself has ended it. If that was because it refuses, its answer to the next
    request says why, and whether that passes. Raises ApiError if Stint refuses, or was unavailable for too long.
    """
    position, attempts = "", Attempts(PATIENCE, api.away)
    while True:
        failure: ApiError = ApiUnreachableError(ended)
        try:
            async with aclosing(api.events(path, after=position, **params)) as events:
                async for event in events:
                    # Without news there are pings, which show that Stint is there.
                    alive = event.name in {"", "hello"} or event.position not in {"", position}
                    position = event.position or position
                    yield event
                    if alive:  # counted from here: what the caller takes for an event is no time without Stint
                        attempts.progress()
                        api.back()
        except ApiError as error:
            failure = error
        await attempts.next(failure)


class _Followed:
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


class JobHandle:
    """A job by its id. Every method raises ApiError if Stint cannot be reached, or refuses."""

    def __init__(self, api: Api, job_id: str) -> None:
        """Nothing is asked: the first answer says whether there is such a job. Raises InvalidJobIdError if no id."""
        self.id = check_job_id(job_id)
        self._api = api
        self._path = f"{JOBS}/{self.id}"
        self._result: JobResult | None = None

    async def info(self) -> JobInfo:
        """The job as it is now."""
        return read(await self._api.get(self._path, output="false"), JobInfo)

    async def stream(self, *, tail: int | None = None) -> AsyncGenerator[JobEvent, None]:
        """What happens to the job, and its output as it comes, from the beginning. The last item is its result.

        A broken connection is made again, and nothing is repeated. Close the generator if you leave it early
        (`contextlib.aclosing`). With `tail` the output begins with the chunk in which the last lines begin, so many of
        them; it is then not checked.

        Raises OutputDiffersError if the output that was received is not what the job's runner recorded.
        """
        followed, ended = _Followed(whole=tail is None), "Stint's live stream ended too early."
        async with aclosing(resumed(self._api, f"{self._path}/events", ended=ended, tail=tail)) as events:
            async for event in events:
                item = followed.take(event)
                if isinstance(item, JobResult) and tail is None:
                    self._result = item
                if item:
                    yield item
                if isinstance(item, JobResult):
                    return

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - what callers of a wait expect
        *,
        output: bool = True,
    ) -> JobResult:
        """The job's result, once it has ended.

        Without `output` what it wrote before is not fetched, nothing is checked, and the result's `tail` is empty.

        Raises what `stream` does, and TimeoutError if it had not ended after `timeout` seconds. It continues.
        """
        async with asyncio.timeout(timeout):
            result = self._result or await self._drain(tail=None if output else 0)
        return result if output else msgspec.structs.replace(result, tail=b"")

    async def _drain(self, file: BinaryIO | None = None, stream: str = "", *, tail: int | None = None) -> JobResult:
        async with aclosing(self.stream(tail=tail)) as items:
            async for item in items:
                match item:
                    case Output() if file and stream in {"", item.stream}:
                        await asyncio.to_thread(file.write, item.data)
                    case JobResult():
                        return item
        raise AssertionError("A stream ends with a result, or raises.")

    async def output(self, *, stream: Literal["stdout", "stderr"] | None = None, tail: int | None = None) -> bytes:
        """The output so far, or one stream of it, or its last lines, held in memory; `copy_output` holds none."""
        return await self._api.read(f"{self._path}/output", stream=stream, tail=tail)

    async def copy_output(self, file: BinaryIO, *, stream: Literal["", "stdout", "stderr", "tty"] = "") -> JobResult:
        """Write the output to a file as it comes, until the job ends; returns its result. Raises what `stream` does."""
        return await self._drain(file, stream)

    async def receipt(self) -> bytes:
        """A signed statement of what became of the job, which must be over: a file to keep.

        `stint.client.check_receipt` reads it, with the keys of `Client.receipt_keys` and without any server.
        """
        return await self._api.read(f"{self._path}/receipt")

    async def kill(self) -> None:
        """Request a kill: a queued job ends at once, and a running one is stopped. It is safe to repeat."""
        await self._api.repeat("POST", f"{JOBS}/kill/{self.id}")

    async def delete(self) -> None:
        """Delete the job, which must not be running."""
        await self._api.delete(self._path)

    async def release(self) -> str:
        """Give up the lost runner of a held job, so that its queue continues; returns the job's previous status."""
        return read((await self._api.repeat("POST", f"{self._path}/release")).get("status"), str)

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"
