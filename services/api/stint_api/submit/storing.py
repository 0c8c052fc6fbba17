"""Storing a job: seal it, put its payload away, and only then say so in the log.

Once a cubbyhole is read, what it held is nowhere but here. So all that can fail before that is done before, what can be
tried again after it is tried again, and what fails all the same is remembered: whoever repeats the request is told, and
gets no alarm about a reading that was ours.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import stamina

from stint.core.errors import BrokerUnavailableError, StintError, VaultError, VaultUnavailableError
from stint.core.events import Submitted
from stint.core.subjects import queue_token
from stint.ports import EventLog, Outcome, PayloadStore
from stint.vault import AppRoleSession, Ticket, Vault, seal_ticket
from stint_api.auth.authenticator import Identity
from stint_api.errors import RefusalError, refusal_of
from stint_api.submit.body import Envelope, Submission, check_sealed
from stint_api.submit.sealing import Sealed, Sealer

PATIENCE: Final = 10.0
"""Seconds for which a job whose cubbyhole was read is stored again and again while NATS or Vault is away."""
CUBBYHOLES_AT_A_TIME: Final = 4
"""How much lies in one only Vault knows, up to its own bound on requests."""
REMEMBERED: Final = 1000
"""Cubbyholes that were read for nothing, of which it is known why."""

_NOT_DONE: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""With these Vault says that it did nothing: over its rate limit, or sealed."""
_SPENT: Final = (
    "The job is not queued, and its cubbyhole is spent: Stint itself has read it, and could then not store the job. "
    "Seal the job anew. "
)
_DOUBT: Final = (
    "The cubbyhole cannot be read. It may be that Stint itself has read it: Vault did not answer an earlier try of "
    "yours. Nothing is queued. Seal the job anew. "
)


class SpentCubbyholes:
    """Why cubbyholes were read for nothing, by caller and cubbyhole. It keeps no token."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._known: dict[bytes, RefusalError] = {}

    def remember(self, identity: Identity, envelope: Envelope, refusal: RefusalError) -> None:
        """What this caller is to be told when it comes again. The oldest are forgotten."""
        while len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[self._digest(identity, envelope)] = refusal.again()

    def why(self, identity: Identity, envelope: Envelope) -> RefusalError | None:
        """None if it was not for us that it cannot be read any more."""
        known = self._known.get(self._digest(identity, envelope))
        return known.again() if known else None

    def _digest(self, identity: Identity, envelope: Envelope) -> bytes:
        parts = (identity.caller, envelope.cubby_token, envelope.cubby_path)
        return hashlib.blake2b("\0".join(parts).encode(errors="surrogatepass"), key=self._key).digest()


class UnknownOutcomeError(RefusalError):
    """Nobody can say yet whether the job was taken: a 503 that carries the job's id, so that the caller can look."""

    def __init__(self, job_id: str) -> None:
        sentence = "NATS did not answer: it is not known yet whether this was taken. Look again later."
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, sentence, _id=job_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is to be stored.

    Attributes:
        event_id: of the fact; the same in each attempt, by which the log knows them for one.
    """

    identity: Identity
    submission: Submission
    job_id: str
    digest: str
    event_id: str
    at: str
    wrap_expires_at: str

    @property
    def token(self) -> str:
        """The queue's."""
        return queue_token(self.submission.qname)

    @property
    def attempt(self) -> str:
        """Only a request with a digest can come again, and then has a payload of its own."""
        return f"{self.event_id[:8]}-" if self.digest else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Puts jobs where runners find them.

    Attributes:
        now: aware, UTC.
        new_event_id: source of ids.
        patience: see `PATIENCE`.
    """

    vault: Vault
    session: AppRoleSession
    log: EventLog
    payloads: PayloadStore
    sealer: Sealer
    now: Callable[[], datetime]
    new_event_id: Callable[[], str]
    patience: float = PATIENCE
    spent: SpentCubbyholes = field(default_factory=SpentCubbyholes)
    cubbyholes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CUBBYHOLES_AT_A_TIME))

    async def put(
        self, identity: Identity, submission: Submission, job_id: str, digest: str = ""
    ) -> tuple[Submitted, Outcome]:
        """Store a job. With a digest its payload is one of several tries'. The outcome is `WON` or `LOST`.

        Raises:
            CubbyholeError: the cubbyhole cannot be read; `spent` may know why.
            UnknownOutcomeError: nobody can say yet whether the job was taken.
            RefusalError: the cubbyhole was read, and the job could not be stored.
            StintError: see `stint_api.errors`.
        """
        draft = Draft(
            identity=identity,
            submission=submission,
            job_id=job_id,
            digest=digest,
            event_id=self.new_event_id(),
            at=rfc3339(self.now()),
            wrap_expires_at=await self._wrap_expiry(submission.envelope.wrap_secret_id),
        )
        if not submission.envelope.in_cubbyhole:
            return await self._write(draft, await self.sealer.seal(submission))
        own = await self.sealer.own_fields(submission)
        async with self.cubbyholes:
            await self.log.load(job_id)  # NATS answers: else nothing is spent
            payload = await self._read(draft)
            return await self._write_spent(draft, payload, own)

    async def _read(self, draft: Draft) -> str:
        try:
            return await self.sealer.read_cubbyhole(draft.submission.envelope)
        except VaultUnavailableError as error:
            if error.code not in _NOT_DONE:
                doubt = RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, _DOUBT)
                self.spent.remember(draft.identity, draft.submission.envelope, doubt)
            raise

    async def _write_spent(self, draft: Draft, payload: str, own: bytes) -> tuple[Submitted, Outcome]:
        """Write what cannot be read again. A failure is remembered for the caller's next try."""
        doubt: UnknownOutcomeError | None = None
        try:
            sealed = Sealed(check_sealed(payload) + own)
            async for attempt in _attempts(self.patience):
                with attempt:
                    try:
                        return await self._write(draft, sealed)
                    except UnknownOutcomeError as error:
                        doubt = error
                        raise
            raise AssertionError  # pragma: no cover - the loop returns or raises
        except StintError as error:
            refusal = doubt or _after_reading(error)
        self.spent.remember(draft.identity, draft.submission.envelope, refusal)
        raise refusal

    async def _write(self, draft: Draft, sealed: Sealed) -> tuple[Submitted, Outcome]:
        """Safe to repeat with the same arguments."""
        submitted = Submitted(
            event_id=draft.event_id,
            at=draft.at,
            **draft.identity.signature,
            qname=draft.submission.qname,
            ticket=await self._ticket(draft, sealed.payload),
            payload_chunks=await self.payloads.put(draft.token, draft.job_id, sealed.payload, attempt=draft.attempt),
            payload_bytes=len(sealed.payload),
            payload_try=draft.attempt,
            container_image=sealed.container_image,
            tty=sealed.tty,
            request_digest=draft.digest,
            on_lost=draft.submission.job.on_lost,
        )
        outcome = await self.log.append(draft.token, draft.job_id, submitted)
        if outcome is Outcome.UNKNOWN:
            raise UnknownOutcomeError(draft.job_id)
        return submitted, outcome

    async def _ticket(self, draft: Draft, payload: bytes) -> str:
        ticket = Ticket(
            wrap_secret_id=draft.submission.envelope.wrap_secret_id,
            payload_sha256=hashlib.sha256(payload).hexdigest(),
            wrap_expires_at=draft.wrap_expires_at,
        )
        return await self.session.call(
            lambda own: seal_ticket(self.vault, own, ticket, queue_token=draft.token, job_id=draft.job_id)
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


def _attempts(patience: float) -> AsyncIterator[stamina.Attempt]:
    away = (BrokerUnavailableError, VaultUnavailableError, UnknownOutcomeError)
    return stamina.retry_context(
        on=away, attempts=None, timeout=patience, wait_initial=0.05, wait_max=1.0, wait_jitter=0.2
    ).__aiter__()


def _after_reading(error: StintError) -> RefusalError:
    """No 503: sent again, the same request could not succeed."""
    if isinstance(error, BrokerUnavailableError | VaultUnavailableError):
        return RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, f"{_SPENT}{refusal_of(error).sentence}")
    return refusal_of(error)


def rfc3339(moment: datetime) -> str:
    """In UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
