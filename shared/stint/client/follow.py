"""Follows a job to its end."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any, Final, Protocol

from rich.console import Console

from stint.client.api import Api, ApiRefusedError, ApiUnreachableError, LiveEvent
from stint.core.chain import Chain
from stint.core.errors import StintError
from stint.core.events import Ended

PATIENCE: Final = 120.0
"""Seconds for which a broken live stream is retried without any progress."""
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts, doubled each time."""

INCOMPLETE: Final = "Part of the job's output may be missing above."


class OutputDiffersError(StintError):
    """The output above differs from what the job's runner recorded. The job has ended; do not rely on this output."""


class Sink(Protocol):
    """Receives a job's output."""

    async def write(self, stream: str, data: bytes) -> None:
        """Write bytes of `stdout`, `stderr` or `tty` immediately."""
        ...


class Narrator:
    """Reports a job's progress on standard error."""

    _WORDS: Final = {
        "started": "running on {runner}",
        "kill_requested": "a kill was requested",
        "held": "held: its runner was lost, and its queue waits for that runner or for `stint release`",
        "released": "released",
    }

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet

    def say(self, text: str) -> None:
        """Print a line, unless `quiet`."""
        if not self._quiet:
            self._console.print(f"stint: {text}", style="dim", markup=False, highlight=False, soft_wrap=True)

    def fact(self, fact: Mapping[str, Any]) -> None:
        """Report an event of the job."""
        if words := self._WORDS.get(fact["kind"]):
            self.say(words.format_map(fact))

    def end(self, job: Mapping[str, Any]) -> None:
        """Report the job's end. Errors are printed even if `quiet`."""
        for sentence in (job.get("error"), "" if job.get("output_complete", True) else INCOMPLETE):
            if sentence:
                self._console.print(f"stint: {sentence}", markup=False, highlight=False, soft_wrap=True)
        code = f" with {job['return_code']}" if job["return_code"] else ""
        reason = f" ({job['reason']})" if job.get("reason") else ""
        self.say(f"{job['status']}{code}{reason}")


async def follow(api: Api, job_id: str, sink: Sink, narrator: Narrator) -> Mapping[str, Any]:
    """Write the job's output to `sink` until the job ends; returns its last view. A broken stream is resumed.

    Raises:
        OutputDiffersError: the received output differs from what the job's `ended` says.
        StintError: Stint refuses, or was unavailable for too long.
    """
    follower = _Follower(api, job_id, sink, narrator)
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
    def __init__(self, api: Api, job_id: str, sink: Sink, narrator: Narrator) -> None:
        self._api = api
        self._job_id = job_id
        self._sink = sink
        self._narrator = narrator
        self.position = ""
        self.job: Mapping[str, Any] | None = None
        self._chain = Chain()
        self._ended: Mapping[str, Any] = {}

    async def attempt(self) -> StintError:
        """Follow until the job ends, which sets `job`, or until the stream breaks; returns the reason."""
        try:
            async for event in self._api.events(self._job_id, after=self.position):
                await self._take(event)
        except ApiUnreachableError as error:
            return error
        except ApiRefusedError as error:
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
                await self._sink.write(event.data["stream"], data)
            case "fact":
                self._narrator.fact(event.data)
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
