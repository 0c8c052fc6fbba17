"""The client without async: the same calls, which wait. An event loop in a thread of its own makes them."""

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import BinaryIO, Literal, Self, Unpack

from stint.client.client import PAGE, PATIENCE, Client
from stint.client.fields import JobFields, JobFilter
from stint.client.fleet import JobChange, QueueInfo, RunnerInfo
from stint.client.job import JobHandle
from stint.client.loop import LoopThread
from stint.client.options import DEFAULT_WRAP_TTL, Endpoints
from stint.client.receipts import PublicKeys
from stint.client.results import JobEvent, JobInfo, JobResult
from stint.client.trail import AuditEntry, SecretUse


class SyncJob:
    """See `stint.client.JobHandle`."""

    def __init__(self, loop: LoopThread, job: JobHandle) -> None:
        self._loop, self._job = loop, job
        self.id = job.id

    def info(self) -> JobInfo:
        """The job as it is now."""
        return self._loop.run(self._job.info())

    def stream(self, *, tail: int | None = None) -> Iterator[JobEvent]:
        """What happens to the job, and its output as it comes; the last item is its result."""
        return self._loop.each(self._job.stream(tail=tail))

    def wait(self, timeout: float | None = None) -> JobResult:
        """The job's result, once it has ended.

        Raises:
            TimeoutError: it had not ended after `timeout` seconds. It continues.
        """
        return self._loop.run(self._job.wait(timeout))

    def output(self, *, stream: Literal["stdout", "stderr"] | None = None, tail: int | None = None) -> bytes:
        """The output so far, or one stream of it, or its last lines."""
        return self._loop.run(self._job.output(stream=stream, tail=tail))

    def copy_output(self, file: BinaryIO, *, stream: Literal["", "stdout", "stderr", "tty"] = "") -> JobResult:
        """Write the output to a file as it comes, until the job ends; returns its result."""
        return self._loop.run(self._job.copy_output(file, stream=stream))

    def receipt(self) -> bytes:
        """See `JobHandle.receipt`."""
        return self._loop.run(self._job.receipt())

    def kill(self) -> None:
        """Request a kill."""
        self._loop.run(self._job.kill())

    def delete(self) -> None:
        """Delete the job, which must not be running."""
        self._loop.run(self._job.delete())

    def release(self) -> str:
        """Give up the lost runner of a held job; returns the job's previous status."""
        return self._loop.run(self._job.release())

    def __repr__(self) -> str:
        return f"SyncJob({self.id!r})"


class SyncClient:
    """See `stint.client.Client`. Several threads may use it. Use it with `with`."""

    def __init__(self, client: Client) -> None:
        """The calls of this client, which nobody else uses. Usually `connect` or `from_env` makes it."""
        self._client = client
        self._loop = LoopThread(client.__aexit__)

    @classmethod
    def connect(cls, where: Endpoints, *, patience: float = PATIENCE) -> Self:
        """See `Client.connect`."""
        return cls(Client.connect(where, patience=patience))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, patience: float = PATIENCE) -> Self:
        """See `Client.from_env`."""
        return cls(Client.from_env(environ, patience=patience))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.close()

    def submit(
        self, *, queue: str = "", key: str = "", wrap_ttl: str = DEFAULT_WRAP_TTL, **fields: Unpack[JobFields]
    ) -> SyncJob:
        """Seal a job and put it into its queue, see `Client.submit`."""
        work = self._client.submit(queue=queue, key=key, wrap_ttl=wrap_ttl, **fields)
        return SyncJob(self._loop, self._loop.run(work))

    def rerun(self, job_id: str, *, key: str = "", wrap_ttl: str = DEFAULT_WRAP_TTL) -> SyncJob:
        """See `Client.rerun`."""
        return SyncJob(self._loop, self._loop.run(self._client.rerun(job_id, key=key, wrap_ttl=wrap_ttl)))

    def job(self, job_id: str) -> SyncJob:
        """The job with this id. Nothing is asked yet."""
        return SyncJob(self._loop, self._client.job(job_id))

    def jobs(self, *, page: int = PAGE, **wanted: Unpack[JobFilter]) -> Iterator[JobInfo]:
        """The jobs that the token may read, the last submitted first, see `Client.jobs`."""
        return self._loop.each(self._client.jobs(page=page, **wanted))

    def counts(self, **wanted: Unpack[JobFilter]) -> Mapping[str, int]:
        """See `Client.counts`."""
        return self._loop.run(self._client.counts(**wanted))

    def queues(self) -> list[QueueInfo]:
        """See `Client.queues`."""
        return self._loop.run(self._client.queues())

    def queue(self, name: str) -> QueueInfo:
        """See `Client.queue`."""
        return self._loop.run(self._client.queue(name))

    def pause(self, name: str, *, reason: str = "") -> QueueInfo:
        """See `Client.pause`."""
        return self._loop.run(self._client.pause(name, reason=reason))

    def resume(self, name: str) -> QueueInfo:
        """See `Client.resume`."""
        return self._loop.run(self._client.resume(name))

    def runners(self) -> list[RunnerInfo]:
        """See `Client.runners`."""
        return self._loop.run(self._client.runners())

    def drain(self, runner: str) -> None:
        """See `Client.drain`."""
        self._loop.run(self._client.drain(runner))

    def audit(
        self, *, queue: str | None = None, since: datetime | None = None, who: str | None = None, page: int = PAGE
    ) -> Iterator[AuditEntry]:
        """See `Client.audit`."""
        return self._loop.each(self._client.audit(queue=queue, since=since, who=who, page=page))

    def lineage(
        self, secret: str, *, version: int | None = None, outdated: bool | None = None, page: int = PAGE
    ) -> Iterator[SecretUse]:
        """See `Client.lineage`."""
        return self._loop.each(self._client.lineage(secret, version=version, outdated=outdated, page=page))

    def receipt_keys(self) -> PublicKeys:
        """See `Client.receipt_keys`."""
        return self._loop.run(self._client.receipt_keys())

    def events(self, *, queue: str | None = None, status: str | None = None) -> Iterator[JobChange]:
        """See `Client.events`."""
        return self._loop.each(self._client.events(queue=queue, status=status))
