"""Submitting a job: seal, store, and only then say so in the log."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

import msgspec

from stint.codec import encode
from stint.errors import (
    BrokerUnavailableError,
    StintError,
    TooLargeError,
    UndecodableError,
    VaultError,
    VaultRefusedError,
    VaultUnavailableError,
)
from stint.eventlog import EventLog, Outcome, PayloadStore
from stint.events import Submitted
from stint.payload import JobPayload
from stint.subjects import queue_token
from stint.vault import AppRoleSession, Ticket, Vault, check_path, error_text, seal_ticket
from stint_api.answers import RefusalError
from stint_api.auth import Identity
from stint_api.body import Envelope, Submission, check_sealed

_INTERCEPTED = "POSSIBLE SECURITY/INTERCEPTION ALERT!!! Failed to read cubbyhole from vault, error: "


@dataclass(frozen=True, slots=True)
class Sealed:
    """A payload as it is stored, and what of it may be shown in the clear."""

    payload: bytes
    container_image: str = ""
    tty: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that is in the log."""

    job_id: str
    qname: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """Takes jobs in.

    Attributes:
        role: the transit key that seals payloads.
        broker_up: whether NATS is connected; asked before anything is spent.
        now: aware, UTC.
        new_job_id, new_event_id: sources of ids.
    """

    vault: Vault
    session: AppRoleSession
    log: EventLog
    payloads: PayloadStore
    role: str
    broker_up: Callable[[], bool]
    now: Callable[[], datetime]
    new_job_id: Callable[[], str]
    new_event_id: Callable[[], str]

    async def submit(self, identity: Identity, submission: Submission) -> Accepted:
        """Put a job into its queue.

        Raises:
            RefusalError: the request lacks something, the cubbyhole cannot be read, or nobody can say yet whether the
                job was taken (503 with its `_id`).
            StintError: see `stint_api.answers`.
        """
        if not submission.envelope.wrap_secret_id:
            raise UndecodableError("AppRole SecretID's Wrapping Token must be present in the job request")
        if not self.broker_up():  # a cubbyhole token serves once: do not spend it on a job that cannot be stored
            raise BrokerUnavailableError
        sealed = await self._seal(submission)
        return await self._store(identity, submission, sealed)

    async def _seal(self, submission: Submission) -> Sealed:
        envelope = submission.envelope
        if envelope.cubby_token and envelope.cubby_path:
            return Sealed(await self._from_cubbyhole(envelope))
        if envelope.payload:
            return Sealed(check_sealed(envelope.payload))
        return await self._from_plain(msgspec.structs.replace(submission.job, qname=submission.qname))

    async def _from_cubbyhole(self, envelope: Envelope) -> bytes:
        path = _checked(envelope.cubby_path)
        try:
            found = await self.vault.read_cubbyhole(envelope.cubby_token, path)
        except VaultUnavailableError:
            raise
        except VaultError as error:
            raise RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, _INTERCEPTED + error_text(error)) from None
        payload = (found or {}).get("payload")
        if not isinstance(payload, str):
            raise RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, f"{_INTERCEPTED}no payload at {path}")
        return check_sealed(payload)

    async def _from_plain(self, job: JobPayload) -> Sealed:
        plain = encode(job)
        try:
            sealed = await self.session.call(lambda own: self.vault.encrypt(own, self.role, plain))
        except VaultRefusedError as error:
            if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise TooLargeError("The job is larger than Vault takes.") from None
            raise
        return Sealed(sealed.encode(), container_image=job.container_image, tty=job.tty)

    async def _store(self, identity: Identity, submission: Submission, sealed: Sealed) -> Accepted:
        token, job_id = queue_token(submission.qname), self.new_job_id()
        wrap_secret_id = submission.envelope.wrap_secret_id
        ticket = Ticket(
            wrap_secret_id=wrap_secret_id,
            payload_sha256=hashlib.sha256(sealed.payload).hexdigest(),
            wrap_expires_at=await self._wrap_expiry(wrap_secret_id),
        )
        submitted = Submitted(
            event_id=self.new_event_id(),
            at=rfc3339(self.now()),
            by=identity.name,
            qname=submission.qname,
            ticket=await self.session.call(
                lambda own: seal_ticket(self.vault, own, ticket, queue_token=token, job_id=job_id)
            ),
            payload_chunks=await self.payloads.put(token, job_id, sealed.payload),
            payload_bytes=len(sealed.payload),
            container_image=sealed.container_image,
            tty=sealed.tty,
        )
        check_outcome(await self.log.append(token, job_id, submitted), job_id)
        return Accepted(job_id, submission.qname)

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
        sentence = "NATS did not answer: it is not known yet whether this was taken. Look again later."
        raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, sentence, _id=job_id)
    if outcome is Outcome.LOST:
        raise StintError(f"Another writer was faster at job {job_id}.")


def _checked(path: str) -> str:
    try:
        return check_path(path)
    except VaultRefusedError:
        raise UndecodableError("The cubby_path is not a Vault path.") from None


def rfc3339(moment: datetime) -> str:
    """In UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
