"""A client of Stint."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Self, TypeVar, Unpack
from urllib.parse import quote

from stint.client.errors import ApiRefusedError
from stint.client.fields import JobFields, JobFilter, params_of, payload_of
from stint.client.fleet import AuditEntry, JobChange, QueueInfo, RunnerInfo, SecretUse, changes, queue_path
from stint.client.job import JobHandle
from stint.client.options import DEFAULT_WRAP_TTL, Endpoints, endpoints
from stint.client.receipts import PublicKeys
from stint.client.rest.api import JOBS, Api, Say, silent
from stint.client.rest.connection import http_client
from stint.client.results import JobInfo, read, rows
from stint.client.submitting.sealing import Sealed, SealedByVault, Sealer
from stint.core.errors import ConfigError
from stint.core.submission.payload import JobPayload

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds for which a request that is safe to repeat is repeated while Stint is unavailable."""
PAGE: Final = 100
"""How many of a list are asked for at a time, as many as the API gives."""


class Client:
    """A client of Stint's API, which seals jobs with Vault itself. It is for one event loop.

    Use it with `async with`, which closes its connections at the end. Every method raises ApiError if Stint cannot be
    reached, or refuses; each error's `sentence` is for people.
    """

    def __init__(self, api: Api, sealer: Sealer) -> None:
        """Usually `connect` or `from_env` makes it."""
        self._api = api
        self._sealer = sealer

    @classmethod
    def connect(cls, where: Endpoints, *, patience: float = PATIENCE, say: Say = silent) -> Self:
        """A client of the Stint and the Vault at these addresses.

        Args:
            where: the addresses, and the token.
            patience: seconds for which requests that are safe to repeat are repeated while Stint is unavailable.
            say: is told in a sentence that a submission is repeated, or that a live stream waits for Stint, once each.

        Raises:
            ConfigError: the address, the token or the CA bundle is wrong.
        """
        return cls(Api(http_client(where), patience=patience, say=say), SealedByVault(where))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, patience: float = PATIENCE) -> Self:
        """A client with the settings of `stint run`: STINT_URL, STINT_TOKEN and so on. Raises ConfigError."""
        return cls.connect(endpoints(environ), patience=patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._api.__aexit__()

    async def submit(
        self, *, queue: str = "", key: str = "", wrap_ttl: str = DEFAULT_WRAP_TTL, **fields: Unpack[JobFields]
    ) -> JobHandle:
        """Seal a job and put it into its queue.

        Args:
            queue: its jobs run one at a time, in order.
            key: names the job. Whoever submits with the same key and the same identity again gets the job that was
                submitted first, whatever the second one asks for. Without a key each submission is a new job.
            wrap_ttl: how long the job may wait in its queue, as a duration of Vault.
            **fields: the job, see `JobFields`.

        Raises:
            ConfigError: a field is wrong, or `wrap_ttl` is.
            VaultError: Vault cannot be reached, or refuses. Nothing has been submitted.
            ApiError: Stint refuses, or it is `doubtful` whether the job was submitted.
        """
        job = await asyncio.to_thread(payload_of, queue, fields)
        return await self.send(await self.seal(job, wrap_ttl=wrap_ttl), key=key)

    async def seal(self, job: JobPayload, *, wrap_ttl: str = DEFAULT_WRAP_TTL) -> Sealed:
        """The first half of `submit`: nothing has been submitted after it. Raises VaultError as that does."""
        sealed = await self._sealer.seal(job, wrap_ttl=wrap_ttl)
        return Sealed(job.qname, {"qname": job.qname, **sealed, **({"on_lost": job.on_lost} if job.on_lost else {})})

    async def send(self, sealed: Sealed, *, key: str = "") -> JobHandle:
        """The second half of `submit`."""
        return await self._submit(JOBS, sealed.fields, key, lambda first: first.queue == sealed.queue)

    async def _submit(
        self, path: str, fields: Mapping[str, str], key: str, is_same: Callable[[JobInfo], bool]
    ) -> JobHandle:
        try:
            return self.job(await self._api.submit(fields, key=key, path=path))
        except ApiRefusedError as error:
            if not key or error.code != HTTPStatus.CONFLICT or not error.job_id:
                raise
            # Each time a job is sealed it is another request, so that the API cannot tell that it is the same job.
            first = self.job(error.job_id)
            if not is_same(await first.info()):
                raise
            return first

    async def rerun(self, job_id: str, *, key: str = "", wrap_ttl: str = DEFAULT_WRAP_TTL) -> JobHandle:
        """Run a job again that is over: the same sealed job, in the same queue, as a new job, which `key` names.

        Raises what `submit` does, among others ApiError if the server no longer keeps the job's payload (410).
        """
        job, wrapped = self.job(job_id), await self._sealer.wrap(wrap_ttl=wrap_ttl)
        fields, path = {"wrap_secret_id": wrapped}, f"{JOBS}/{job.id}/rerun"
        return await self._submit(path, fields, key, lambda first: first.rerun_of == job.id)

    def job(self, job_id: str) -> JobHandle:
        """The job with this id. Nothing is asked yet. Raises InvalidJobIdError if it is none."""
        return JobHandle(self._api, job_id)

    def jobs(self, *, page: int = PAGE, **wanted: Unpack[JobFilter]) -> AsyncGenerator[JobInfo, None]:
        """The jobs that the token may read, the last submitted first: all pages, one after another, as they are needed.

        The list may lag by a second. None of them is left out or repeated because others come or go meanwhile.

        `page`: how many are asked for at a time, for callers who want only a few.
        """
        return self._each(JOBS, JobInfo, page=page, **params_of(wanted))

    async def counts(self, **wanted: Unpack[JobFilter]) -> Mapping[str, int]:
        """How many jobs pass the filter, by status."""
        page = await self._api.get(JOBS, **params_of(wanted), counts="1", limit=1)
        return read(page.get("counts"), dict[str, int])

    async def queues(self) -> list[QueueInfo]:
        """The queues with jobs that can be seen, and those that are paused, that the token may read; by name."""
        return [read(queue, QueueInfo) for queue in rows(await self._api.get("/v1/api/queue"))]

    async def queue(self, name: str) -> QueueInfo:
        """A queue, and the first jobs that wait in it."""
        return read(await self._api.get(queue_path(name)), QueueInfo)

    async def pause(self, name: str, *, reason: str = "") -> QueueInfo:
        """Pause a queue: none of its jobs starts any more that had not been claimed before. A running one continues."""
        return read(await self._api.repeat("POST", f"{queue_path(name)}/pause", json={"reason": reason}), QueueInfo)

    async def resume(self, name: str) -> QueueInfo:
        """Resume a queue: its next job starts."""
        return read(await self._api.repeat("POST", f"{queue_path(name)}/resume"), QueueInfo)

    async def runners(self) -> list[RunnerInfo]:
        """The runners that reported within a day and did not leave in order: those that are alive first."""
        return [read(runner, RunnerInfo) for runner in rows(await self._api.get("/v1/api/runner"))]

    async def drain(self, runner: str) -> None:
        """Ask a runner to take no more jobs, and to end after those that it has.

        Raises ConfigError if no runner can be called this, because no path can contain it.
        """
        if runner in {"", ".", ".."}:
            raise ConfigError(f"No runner is called {runner!r}.")
        await self._api.repeat("POST", f"/v1/api/runner/{quote(runner, safe='', errors='replace')}/drain")

    def audit(
        self, *, queue: str | None = None, since: datetime | None = None, who: str | None = None, page: int = PAGE
    ) -> AsyncGenerator[AuditEntry, None]:
        """What was done in the queues that the token may read, the newest first: all pages, as `jobs` gives them.

        `who`: a display name, the id of an identity, the accessor of a token, or a NATS user.
        """
        begin = since.isoformat() if since else None
        return self._each("/v1/api/audit", AuditEntry, page=page, qname=queue, since=begin, who=who)

    def lineage(
        self, secret: str, *, version: int | None = None, outdated: bool | None = None, page: int = PAGE
    ) -> AsyncGenerator[SecretUse, None]:
        """Which jobs got a secret, in the queues that the token may read, the newest first: all pages, as above.

        Args:
            secret: as jobs name it, `path.key`; a path alone stands for all of its keys.
            version: only jobs that got this version.
            outdated: only jobs that got an older version than the newest, or only those that got the newest.
            page: as with `jobs`.
        """
        old = None if outdated is None else str(outdated).lower()
        wanted = {"secret": secret, "version": version, "outdated": old}
        return self._each("/v1/api/lineage", SecretUse, page=page, **wanted)

    async def receipt_keys(self) -> PublicKeys:
        """The public keys to check receipts with, see `JobHandle.receipt`. Keep them: they outlive Stint."""
        return read(await self._api.get("/v1/api/receipt/keys"), PublicKeys)

    async def _each(self, path: str, shape: type[T], *, page: int, **wanted: Any) -> AsyncGenerator[T, None]:
        async for part in self._api.pages(path, **wanted, limit=page):
            for fields in rows(part):
                yield read(fields, shape)

    def events(self, *, queue: str | None = None, status: str | None = None) -> AsyncGenerator[JobChange, None]:
        """The changes of all jobs that the token may read, from now on, until the caller leaves.

        A broken connection is made again. What was missed meanwhile is told; if it can no longer be told, there is a
        change `missed`.
        """
        return changes(self._api, qname=queue, status=status)
