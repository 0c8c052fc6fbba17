"""Submitting a job: seal, store, and only then say so in the log."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import structlog

from stint.errors import BrokerUnavailableError, StintError, UndecodableError, VaultError, VaultUnavailableError
from stint.eventlog import EventLog, Outcome, PayloadStore
from stint.events import Submitted
from stint.job import Job
from stint.subjects import queue_token
from stint.vault import AppRoleSession, Ticket, Vault, seal_ticket
from stint_api.answers import RefusalError
from stint_api.auth import Identity
from stint_api.body import Submission
from stint_api.idempotency import Mark, mark
from stint_api.sealing import CubbyholeError, Sealed, Sealer

log = structlog.get_logger()

TWIN: Final = 2.0
"""Seconds that a request whose cubbyhole was read waits for a twin of itself that may have read it."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that is in the log."""

    job_id: str
    qname: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """Takes jobs in.

    Attributes:
        broker_up: whether NATS is connected; asked before anything is spent.
        now: aware, UTC.
        new_job_id, new_event_id: sources of ids.
    """

    vault: Vault
    session: AppRoleSession
    log: EventLog
    payloads: PayloadStore
    sealer: Sealer
    broker_up: Callable[[], bool]
    now: Callable[[], datetime]
    new_job_id: Callable[[], str]
    new_event_id: Callable[[], str]

    async def submit(self, identity: Identity, submission: Submission, key: str | None = None) -> Accepted:
        """Put a job into its queue; with an idempotency key, only if it is not there.

        Raises:
            RefusalError: the request lacks something, the cubbyhole cannot be read, the key belongs to another
                request, or nobody can say yet whether the job was taken (503 with its `_id`).
            StintError: see `stint_api.answers`.
        """
        if not submission.envelope.wrap_secret_id:
            raise UndecodableError("AppRole SecretID's Wrapping Token must be present in the job request")
        if not self.broker_up():  # a cubbyhole token serves once: do not spend it on a job that cannot be stored
            raise BrokerUnavailableError
        if key is not None:
            return await self._submit_once(identity, submission, mark(identity, key, submission))
        job_id = self.new_job_id()
        submitted = await self._prepare(identity, submission, await self.sealer.seal(submission), job_id)
        check_outcome(await self.log.append(queue_token(submitted.qname), job_id, submitted), job_id)
        return Accepted(job_id, submission.qname)

    # --- with a key -------------------------------------------------------------------------------------------------

    async def _submit_once(self, identity: Identity, submission: Submission, known: Mark) -> Accepted:
        """The log is asked first: a repeat's cubbyhole token is spent."""
        accepted = Accepted(known.job_id, submission.qname)
        if await self._is_there(known):
            return accepted
        try:
            sealed = await self.sealer.seal(submission)
        except CubbyholeError:
            if await self._comes(known):
                return accepted
            raise
        submitted = await self._prepare(identity, submission, sealed, known.job_id, known.digest)
        outcome = await self.log.append(queue_token(submitted.qname), known.job_id, submitted)
        if outcome is Outcome.UNKNOWN:
            check_outcome(outcome, known.job_id)
        await self._settle(known, submitted)
        return accepted

    async def _is_there(self, known: Mark) -> bool:
        job = await self.log.load(known.job_id)
        if job is not None:
            known.check(job)
        return job is not None

    async def _comes(self, known: Mark) -> bool:
        """Whether the same request, sent twice at the same time, is taken."""
        deadline = asyncio.get_running_loop().time() + TWIN
        async with self.log.follow(known.job_id) as changed:
            while True:
                changed.clear()
                if await self._is_there(known):
                    return True
                try:
                    async with asyncio.timeout_at(deadline):
                        await changed.wait()
                except TimeoutError:
                    return False

    async def _settle(self, known: Mark, submitted: Submitted) -> None:
        """See whose the job is. Facts are written once a queue: of two requests for two queues the first counts."""
        try:
            job = await self.log.load(known.job_id)
        except BrokerUnavailableError:
            raise _unknown(known.job_id) from None
        if job is None:
            raise StintError(f"Job {known.job_id} is not in the log.")
        first = job.fact(Submitted)
        if first is None or first.event_id != submitted.event_id:
            await self._discard(job, queue_token(submitted.qname))
        known.check(job)

    async def _discard(self, job: Job, token: str) -> None:
        """Remove this try's payload, if no other can be meant; while the job goes on, its end does that."""
        if job.token == token and not job.terminal:
            return
        try:
            await self.payloads.purge(token, job.job_id)
        except StintError as error:
            log.warning("the payload of a try that came second is still there", job=job.job_id, error=error.sentence)

    # --- what is stored ---------------------------------------------------------------------------------------------

    async def _prepare(
        self, identity: Identity, submission: Submission, sealed: Sealed, job_id: str, digest: str = ""
    ) -> Submitted:
        """Store the payload; returns the fact to append. With a digest the payload is one of several tries'."""
        token, event_id = queue_token(submission.qname), self.new_event_id()
        attempt = f"{event_id[:8]}-" if digest else ""
        return Submitted(
            event_id=event_id,
            at=rfc3339(self.now()),
            **identity.signature,
            qname=submission.qname,
            ticket=await self._ticket(submission.envelope.wrap_secret_id, sealed.payload, token, job_id),
            payload_chunks=await self.payloads.put(token, job_id, sealed.payload, attempt=attempt),
            payload_bytes=len(sealed.payload),
            payload_try=attempt,
            container_image=sealed.container_image,
            tty=sealed.tty,
            request_digest=digest,
            on_lost=submission.job.on_lost,
        )

    async def _ticket(self, wrap_secret_id: str, payload: bytes, token: str, job_id: str) -> str:
        ticket = Ticket(
            wrap_secret_id=wrap_secret_id,
            payload_sha256=hashlib.sha256(payload).hexdigest(),
            wrap_expires_at=await self._wrap_expiry(wrap_secret_id),
        )
        return await self.session.call(
            lambda own: seal_ticket(self.vault, own, ticket, queue_token=token, job_id=job_id)
        )

    async def _wrap_expiry(self, wrap_secret_id: str) -> str:
        """Until when the wrapped secret id is good, "" if Vault does not know it: the job then ends when it runs."""
        try:
            info = await self.vault.wrap_info(wrap_secret_id)
        except VaultUnavailableError:
            raise
        except VaultError:
            return ""
        return rfc3339(info.expires_at)


def check_outcome(outcome: Outcome, job_id: str) -> None:
    """Return if the append was won.

    Raises:
        RefusalError: unknown: a 503 that carries the job's id, so that the caller can look.
        StintError: lost.
    """
    if outcome is Outcome.UNKNOWN:
        raise _unknown(job_id)
    if outcome is Outcome.LOST:
        raise StintError(f"Another writer was faster at job {job_id}.")


def _unknown(job_id: str) -> RefusalError:
    sentence = "NATS did not answer: it is not known yet whether this was taken. Look again later."
    return RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, sentence, _id=job_id)


def rfc3339(moment: datetime) -> str:
    """In UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
