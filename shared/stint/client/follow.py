"""Follows a job to its end."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from stint.client.api import Api, ApiError, ApiUnreachableError, LiveEvent
from stint.core.chain import Chain
from stint.core.errors import StintError
from stint.core.events import Ended

PATIENCE: Final = 120.0
"""Seconds for which a broken live stream is retried without any progress."""
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts, doubled each time."""


class OutputDiffersError(StintError):
    """The output above differs from what the job's runner recorded. The job has ended; do not rely on this output."""


Write = Callable[[str, bytes], Awaitable[None]]
"""Receives a job's output: the stream (`stdout`, `stderr` or `tty`) and its bytes."""
Report = Callable[[Mapping[str, Any]], None]
"""Receives a job's events."""


async def follow(api: Api, job_id: str, write: Write, report: Report) -> Mapping[str, Any]:
    """Pass on the job's output and events until the job ends; returns its last view. A broken stream is resumed.

    Raises:
        OutputDiffersError: the received output differs from what the job's `ended` says.
        StintError: Stint refuses, or was unavailable for too long.
    """
    follower = _Follower(api, job_id, write, report)
    loop = asyncio.get_running_loop()
    pause, since = FIRST_PAUSE, loop.time()
    while True:
        before = follower.position
        failure = await follower.attempt()
        if follower.job is not None:
            return follower.job
        if follower.position != before:
            pause, since = FIRST_PAUSE, loop.time()
        if loop.time() - since > PATIENCE:
            raise failure
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


class _Follower:
    def __init__(self, api: Api, job_id: str, write: Write, report: Report) -> None:
        self._api = api
        self._job_id = job_id
        self._write = write
        self._report = report
        self.position = ""
        self.job: Mapping[str, Any] | None = None
        self._chain = Chain()
        self._ended: Mapping[str, Any] = {}

    async def attempt(self) -> StintError:
        """Follow until the job ends, which sets `job`, or until the stream breaks; returns the reason."""
        try:
            async for event in self._api.events(self._job_id, after=self.position):
                await self._take(event)
        except ApiError as error:
            if not error.temporary:
                raise
            return error
        return ApiUnreachableError("Stint's live stream ended too early.")

    async def _take(self, event: LiveEvent) -> None:
        self.position = event.position or self.position
        match event.name:
            case "output":
                data = base64.b64decode(event.data["data"])
                self._chain = self._chain.add(data)
                await self._write(event.data["stream"], data)
            case "fact":
                self._report(event.data)
                if event.data["kind"] == Ended.kind:
                    self._ended = event.data
            case "end":
                self._verify(event.data)
                self.job = event.data

    def _verify(self, job: Mapping[str, Any]) -> None:
        """If the output is said to be complete, check each byte and their order against the job's `ended`."""
        if "output_digest" not in self._ended or not job["output_complete"]:
            return
        fields = ("output_chunks", "output_bytes", "output_digest")
        if self._chain != Chain(*(self._ended[field] for field in fields)):
            raise OutputDiffersError
