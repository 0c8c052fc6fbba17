"""Storing a job: seal it, store its payload, and only then append it to the log.

Once a cubbyhole is read, what it held is nowhere but here. So everything that can fail before that is done before; what
can be tried again after it is tried again; and a failure all the same is remembered: a caller that repeats the request
is told of it, and gets no alarm about a reading that was ours.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Final

import msgspec
import stamina
import structlog

from stint.core.codec import encode
from stint.core.errors import BrokerUnavailableError, StintError, VaultError, VaultUnavailableError
from stint.core.events import Submitted
from stint.core.job import Job
from stint.core.names.ids import queue_token
from stint.core.view import rfc3339
from stint.ports import EventLog, KeptPayloads, Outcome, PayloadStore
from stint.process.waiting import both
from stint.vault import Encryptor, Ticket, Vault
from stint.vault.encryptor import SMALL
from stint.vault.erasure import PayloadKey, PayloadKeys, encrypted, key_name, new_key
from stint.vault.ticket import binding
from stint_api.auth import Identity
from stint_api.errors import RefusalError, refusal_of
from stint_api.lookups import CACHE_SIZE, Memory
from stint_api.submit.body import Envelope, Sealed, Submission, check_sealed
from stint_api.submit.sealing import Sealer

log = structlog.get_logger()

PATIENCE: Final = 10.0
"""Seconds for which a job whose cubbyhole was read is stored again and again while NATS or Vault is unavailable."""
CUBBYHOLES_AT_A_TIME: Final = 4
"""Only Vault knows how much one contains, up to its own limit on requests."""
REMEMBERED: Final = 24 * 3600.0
"""Seconds for which it is remembered why a job was not stored although its cubbyhole was read."""

Write = Callable[[Sealed], Awaitable[tuple[Submitted, Outcome]]]

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


class UnknownOutcomeError(RefusalError):
    """Nobody can say yet whether the job was taken: a 503 that carries the job's id, so that the caller can look."""

    def __init__(self, job_id: str) -> None:
        sentence = "NATS did not answer: it is not known yet whether this was taken. Look again later."
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, sentence, _id=job_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Stores jobs where runners find them.

    Attributes:
        keys: of the payloads; None if payloads get no key of their own.
        keep: seconds for which a copy of each payload is kept, 0 for none.
    """

    vault: Vault
    tickets: Encryptor
    log: EventLog
    payloads: PayloadStore
    keys: PayloadKeys | None
    kept: KeptPayloads
    sealer: Sealer
    now: Callable[[], datetime]
    keep: float = 0
    patience: float = PATIENCE
    cubbyholes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CUBBYHOLES_AT_A_TIME))
    _spent: Memory[RefusalError] = field(default_factory=lambda: Memory(time.monotonic, CACHE_SIZE))
    _reading: Counter[str] = field(default_factory=Counter)
    """Requests that read a cubbyhole, or store what it held."""

    async def put(
        self, identity: Identity, submission: Submission, job_id: str, digest: str = ""
    ) -> tuple[Submitted, Outcome]:
        """Store a job. With a digest its payload is one of several attempts'. The outcome is `WON` or `LOST`.

        Raises:
            CubbyholeError: the cubbyhole cannot be read; `why_spent` may know why.
            UnknownOutcomeError: nobody can say yet whether the job was taken.
            RefusalError: the cubbyhole was read, and the job could not be stored.
            StintError: see `stint_api.errors`.
        """
        stamp = identity.stamp(self.now())
        event_id = stamp["event_id"]
        draft = Submitted(
            **stamp,  # the same in each attempt, so that the log knows them to be one event
            qname=submission.qname,
            ticket="",
            payload_chunks=0,
            payload_bytes=0,
            payload_try=f"{event_id[:8]}-" if digest else "",  # only a request with a digest can come again
            request_digest=digest,
            on_lost=submission.job.on_lost,
            rerun_of=submission.rerun_of,
        )
        key = new_key(key_name(job_id, draft)) if self.keys else None
        try:
            return await self._put(identity, submission, job_id, draft, key)
        except (UnknownOutcomeError, VaultUnavailableError):
            raise
        except StintError:  # the job is not in the log
            await self._forget(key)
            raise

    async def _put(
        self, identity: Identity, submission: Submission, job_id: str, draft: Submitted, key: PayloadKey | None
    ) -> tuple[Submitted, Outcome]:
        envelope = submission.envelope
        expiry, sealed = await both(self._wrap_expiry(envelope.wrap_secret_id), self._sealed(submission))
        ticket = Ticket(wrap_secret_id=envelope.wrap_secret_id, payload_sha256="", wrap_expires_at=expiry)
        write = partial(self._write, job_id, draft, ticket, key)
        if not envelope.in_cubbyhole:
            return await write(sealed)
        async with self.cubbyholes:
            await self.log.load(job_id)  # NATS answers: else nothing is spent
            with self._under_way(_key(identity, envelope)) as known:
                return await self._write_cubbyhole(write, envelope, sealed.payload, key=known)

    @contextmanager
    def _under_way(self, key: str) -> Iterator[str]:
        self._reading[key] += 1
        try:
            yield key
        finally:
            self._reading.subtract([key])
            if not self._reading[key]:
                del self._reading[key]

    def is_under_way(self, identity: Identity, envelope: Envelope) -> bool:
        """Whether another request of this caller has read this cubbyhole here, or reads it, and stores the job."""
        return _key(identity, envelope) in self._reading

    def why_spent(self, identity: Identity, envelope: Envelope) -> RefusalError | None:
        """Why the job of this cubbyhole, which we have read before, was not stored; None if we have not read it."""
        known = self._spent.get(_key(identity, envelope))
        return known.again() if known else None

    async def discard(self, job: Job, submitted: Submitted) -> None:
        """Remove the payload of an attempt that lost, unless the job may need it. A running job's goes at its end."""
        token = queue_token(submitted.qname)
        try:
            if self.keys:  # that of this attempt alone
                await self.keys.destroy(key_name(job.job_id, submitted))
            if job.token != token or job.terminal:
                await self.payloads.purge(token, job.job_id)
        except StintError as error:
            log.warning("cannot remove the payload of an attempt that lost", job=job.job_id, error=error.sentence)

    async def _sealed(self, submission: Submission) -> Sealed:
        """The payload; with a cubbyhole only what belongs behind that of the cubbyhole."""
        if submission.envelope.in_cubbyhole:
            return Sealed(await self.sealer.own_fields(submission))
        return await self.sealer.seal(submission)

    async def _write_cubbyhole(
        self, write: Write, envelope: Envelope, own: bytes, *, key: str
    ) -> tuple[Submitted, Outcome]:
        """Read the cubbyhole and write what it held. A failure after the reading is remembered under the key."""
        try:
            payload = await self.sealer.read_cubbyhole(envelope)
        except VaultUnavailableError as error:
            if error.code not in _NOT_DONE:
                self._spent.put(key, RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, _DOUBT), REMEMBERED)
            raise
        try:
            return await self._write_spent(write, payload, own)
        except RefusalError as refusal:
            self._spent.put(key, refusal.again(), REMEMBERED)
            raise

    async def _write_spent(self, write: Write, payload: str, own: bytes) -> tuple[Submitted, Outcome]:
        """Write what cannot be read again. Every failure is a RefusalError, for the caller's next try too."""
        away = (BrokerUnavailableError, VaultUnavailableError, UnknownOutcomeError)
        attempts = stamina.retry_context(
            on=away, attempts=None, timeout=self.patience, wait_initial=0.05, wait_max=1.0, wait_jitter=0.2
        )
        doubt: UnknownOutcomeError | None = None
        try:
            sealed = Sealed(check_sealed(payload) + own)
            async for attempt in attempts:
                with attempt:
                    try:
                        return await write(sealed)
                    except UnknownOutcomeError as error:
                        doubt = error
                        raise
            raise AssertionError  # pragma: no cover - the loop returns or raises
        except (BrokerUnavailableError, VaultUnavailableError) as error:
            # No 503: sent again, the same request could not succeed.
            sentence = f"{_SPENT}{refusal_of(error).sentence}"
            refusal = doubt or RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)
        except StintError as error:
            refusal = doubt or refusal_of(error)
        raise refusal

    async def _write(
        self, job_id: str, draft: Submitted, ticket: Ticket, key: PayloadKey | None, sealed: Sealed
    ) -> tuple[Submitted, Outcome]:
        """Safe to repeat with the same arguments."""
        token = queue_token(draft.qname)
        digest = hashlib.sha256(sealed.payload).hexdigest()
        ticket = msgspec.structs.replace(ticket, payload_sha256=digest)
        payload = await _encrypted(sealed.payload, key) if key else sealed.payload
        (ciphertext, chunks), _ = await both(
            both(
                self.tickets.encrypt(encode(ticket), associated_data=binding(token, job_id)),
                self.payloads.put(token, job_id, payload, attempt=draft.payload_try),
            ),
            self._keep(key),
        )
        if self.keep:
            await self.kept.keep(token, job_id, digest, sealed.payload, seconds=self.keep)
        submitted = msgspec.structs.replace(
            draft,
            ticket=ciphertext,
            payload_digest=digest if self.keep else "",
            payload_chunks=chunks,
            payload_bytes=len(payload),
            container_image=sealed.container_image,
            tty=sealed.tty,
        )
        outcome = await self.log.append(token, job_id, submitted)
        if outcome is Outcome.UNKNOWN:
            raise UnknownOutcomeError(job_id)
        return submitted, outcome

    async def _keep(self, key: PayloadKey | None) -> None:
        """Store the payload's own key."""
        if self.keys and key:
            await self.keys.store(key)

    async def _forget(self, key: PayloadKey | None) -> None:
        """Remove the key of a job that is not stored. One that stays all the same goes some day: see `KeySweeper`."""
        if self.keys and key:
            try:
                await self.keys.destroy(key.name)
            except VaultError as error:
                log.warning("cannot remove the key of a job that was not stored", error=error.sentence)

    async def _wrap_expiry(self, wrap_secret_id: str) -> str:
        """Until when the wrapped secret id is good, "" if Vault does not know it: the job then ends when it runs."""
        try:
            return rfc3339((await self.vault.wrap_info(wrap_secret_id)).expires_at)
        except VaultUnavailableError:
            raise
        except VaultError:
            return ""


async def _encrypted(payload: bytes, key: PayloadKey) -> bytes:
    """A large one takes tens of milliseconds: in a thread."""
    return encrypted(payload, key) if len(payload) <= SMALL else await asyncio.to_thread(encrypted, payload, key)


def _key(identity: Identity, envelope: Envelope) -> str:
    return f"{identity.caller}\0{envelope.cubby_token}\0{envelope.cubby_path}"
