"""The jobs of a `FakeStint`, and how they end."""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from stint.core import commands
from stint.core.events import AnyEvent, Deleted, Ended, Held, KillRequested, Launched, Released, Started, Submitted
from stint.core.job import Job, State
from stint.core.names.ids import normalise_queue_name, queue_token
from stint.core.output.chain import Chain
from stint.core.submission.payload import JobPayload
from stint.core.view import rfc3339
from stint.testing.memory.events import MemoryEventLog

WRITER = "fake"
"""Who writes all events of a `FakeStint`, and runs its jobs."""

_RAN: Final = frozenset({"", "exit_code", "killed", "timeout", "oom", "lost"})
"""The reasons of jobs whose container existed."""


def written() -> dict[str, Any]:
    """Those of an event that is written now."""
    return {"event_id": secrets.token_hex(8), "at": rfc3339(datetime.now(UTC)), "by": WRITER}


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a job of `FakeStint` ends.

    Attributes:
        return_code: of its command.
        output: what it wrote to standard output.
        stderr: what it wrote to standard error, after that.
        reason: the API's word for it if no command ran or it was stopped, such as `image` or `timeout`.
        error: the reason in words.
    """

    return_code: int = 0
    output: bytes = b""
    stderr: bytes = b""
    reason: str = ""
    error: str = ""

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        return (pair for pair in (("stdout", self.output), ("stderr", self.stderr)) if pair[1])

    def launched(self, job: JobPayload) -> Launched | None:
        """The job's container, None if there was none."""
        if self.reason not in _RAN:
            return None
        return Launched(**written(), container_id="f" * 64, container_image=job.container_image, tty=job.tty)

    def event(self, image: str) -> Ended:
        """The end, as a runner records it."""
        chain = Chain()
        for _, data in self.chunks():
            chain = chain.add(data)
        return Ended(
            **written(),
            status=State.FAILED if self.return_code or self.reason else State.SUCCESS,
            reason=self.reason or ("exit_code" if self.return_code else ""),
            error=self.error,
            return_code=self.return_code,
            container_image=image,
            chunks=chain.chunks,
            output_bytes=chain.size,
            output_digest=chain.digest,
            output_complete=True,
        )


class Change(NamedTuple):
    """That a job changed, and its status before: None for a new one."""

    job_id: str
    was: State | None


class FakeJobs:
    """Jobs by their events. They end as the test says, at once unless something keeps their queue from starting jobs.

    Attributes:
        submitted: what each is to do, by id, in the order of submission.
        back: when the lost runners of held jobs were first seen again.
        pauses: the queues that start nothing: who paused them, when and why.
        draining: whether nothing starts anywhere.
    """

    def __init__(self, ending: Callable[[JobPayload], Ending | None]) -> None:
        self.submitted: dict[str, JobPayload] = {}
        self.endings: dict[str, Ending] = {}
        self.back: dict[str, str] = {}
        self.changes: list[Change] = []
        self.pauses: dict[str, Mapping[str, str]] = {}
        self.draining = False
        self.log = MemoryEventLog()
        self._ending = ending
        self._news = asyncio.Event()
        self._asked: set[str] = set()

    async def load(self, job_id: str) -> Job | None:
        """A job that can be seen."""
        job = await self.log.load(job_id)
        return None if job is None or job.state is State.DELETED else job

    async def all(self, queue: str | None = None) -> list[Job]:
        """Those that can be seen, of one queue or of all, the first submitted first."""
        loaded = [await self.load(job_id) for job_id, job in self.submitted.items() if queue in {None, name_of(job)}]
        return [job for job in loaded if job]

    async def take(self, job: JobPayload, *, rerun_of: str = "") -> str:
        """Put a job into its queue; returns its id."""
        job_id = secrets.token_hex(12)
        self.submitted[job_id] = job
        event = Submitted(**written(), qname=job.qname, ticket="", payload_chunks=1, payload_bytes=1, rerun_of=rerun_of)
        await self.append(job_id, event)
        await self.start()
        return job_id

    async def start(self) -> None:
        """Ask for the ends of the jobs that can start now, each once."""
        held = {name_of(self.submitted[job.job_id]) for job in await self.all() if job.held}
        for job_id, job in list(self.submitted.items()):
            if self.draining or job_id in self._asked or name_of(job) in self.pauses.keys() | held:
                continue
            self._asked.add(job_id)
            found = await self.load(job_id)
            if found and not found.terminal and (ending := self._ending(job)):
                await self.end(job_id, ending)

    async def end(self, job_id: str, ending: Ending) -> None:
        """Run a job to this end."""
        job = self.submitted[job_id]
        self.endings[job_id] = ending
        await self._started(job_id, ending.launched(job), ending.event(job.container_image))

    async def hold(self, job_id: str) -> None:
        """Lose the runner of a job that asks for `on_lost: hold`: its queue waits for a release."""
        self._asked.add(job_id)
        launched = Ending().launched(self.submitted[job_id])
        await self._started(job_id, launched, Held(**written(), runner=WRITER))

    def come_back(self, job_id: str) -> None:
        """See the lost runner of a held job again, as by its output."""
        self.back.setdefault(job_id, rfc3339(datetime.now(UTC)))

    async def _started(self, job_id: str, *events: AnyEvent | None) -> None:
        job = await self.log.load(job_id)
        new = (Started(**written(), runner=WRITER), *events)
        await self.append(job_id, *(event for event in new if event and not (job and event.kind in job.facts)))

    async def kill(self, job: Job) -> None:
        ended = Ending(reason="killed", error="job killed").event("")
        await self.append(job.job_id, *commands.kill(job, KillRequested(**written()), ended))

    async def delete(self, job: Job) -> None:
        """As the API does. Raises IllegalCommandError if it is running or stopping."""
        await self.append(job.job_id, *commands.delete(job, Deleted(**written())))

    async def release(self, job: Job) -> None:
        """As the API does; the queue continues. Raises IllegalCommandError if it is not held and never was released."""
        ended = Ended(**written(), status=State.UNKNOWN, reason="lost", error="Released: its runner was lost.")
        await self.append(job.job_id, *commands.release(job, Released(**written()), ended))
        await self.start()

    async def append(self, job_id: str, *events: AnyEvent) -> None:
        before = await self.log.load(job_id)
        if events:
            await self.log.append(queue_token(name_of(self.submitted[job_id])), job_id, *events)
            self.changes.append(Change(job_id, before.state if before else None))
            news, self._news = self._news, asyncio.Event()
            news.set()

    async def changed(self, known: int) -> None:
        while len(self.changes) <= known:
            await self._news.wait()


def name_of(job: JobPayload) -> str:
    """The job's queue, as all see it."""
    return normalise_queue_name(job.qname)


def wanted_queue(wanted: Mapping[str, str]) -> str | None:
    """The queue that a request's parameters name, as all see it; None for all queues."""
    return normalise_queue_name(wanted["qname"]) if "qname" in wanted else None
