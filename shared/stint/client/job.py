"""One job, and what can be done with it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import BinaryIO, Literal

import msgspec

from stint.client.errors import ApiUnreachableError
from stint.client.rest.api import JOBS, Api
from stint.client.results import JobEvent, JobInfo, JobResult, Output, read
from stint.client.stream import follow
from stint.core.names.ids import check_job_id


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

        Raises:
            OutputDiffersError: the output that was received is not what the job's runner recorded.
        """
        async with aclosing(follow(self._api, self.id, tail=tail)) as items:
            async for item in items:
                if isinstance(item, JobResult) and tail is None:
                    self._result = item
                yield item

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - what callers of a wait expect
        *,
        output: bool = True,
    ) -> JobResult:
        """The job's result, once it has ended.

        Without `output` what it wrote before is not fetched, nothing is checked, and the result's `tail` is empty.

        Raises:
            TimeoutError: it had not ended after `timeout` seconds. It continues.
            OutputDiffersError: as with `stream`.
        """
        async with asyncio.timeout(timeout):
            if output or self._result:
                return self._result or await self._drain()
            return msgspec.structs.replace(await self._drain(tail=0), tail=b"")

    async def _drain(self, file: BinaryIO | None = None, stream: str = "", *, tail: int | None = None) -> JobResult:
        async with aclosing(self.stream(tail=tail)) as items:
            async for item in items:
                match item:
                    case Output() if file and stream in {"", item.stream}:
                        await asyncio.to_thread(file.write, item.data)
                    case JobResult():
                        return item
        raise ApiUnreachableError("Stint's live stream ended too early.")

    async def output(self, *, stream: Literal["stdout", "stderr"] | None = None, tail: int | None = None) -> bytes:
        """The output so far, or one stream of it, or its last lines."""
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
