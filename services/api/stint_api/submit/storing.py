"""Storing a job: seal it, store its payload, and only then append it to the log."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import msgspec
import structlog

from stint.core.codec import encode
from stint.core.errors import StintError, VaultError, VaultUnavailableError
from stint.core.events import Submitted
from stint.core.job import Job
from stint.core.names.ids import queue_token
from stint.core.view import rfc3339
from stint.ports import EventLog, KeptPayloads, Outcome, PayloadStore
from stint.process.waiting import both
from stint.vault import Encryptor, Ticket, Vault
from stint.vault.erasure import PayloadKey, PayloadKeys, encrypted, key_name, new_key
from stint.vault.ticket import binding
from stint.vault.transit import SMALL
from stint_api.auth import Identity
from stint_api.errors import UnknownOutcomeError
from stint_api.submit.body import Sealed, Submission
from stint_api.submit.sealing import Cubbyholes, Sealer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Stores jobs where runners find them, and keeps a copy of each payload for `keep` seconds.

    `keys` is None if payloads get no key of their own.
    """

    vault: Vault
    tickets: Encryptor
    log: EventLog
    payloads: PayloadStore
    keys: PayloadKeys | None
    kept: KeptPayloads
    sealer: Sealer
    cubbyholes: Cubbyholes
    now: Callable[[], datetime]
    keep: float = 0

    async def put(
        self, identity: Identity, submission: Submission, job_id: str, digest: str = ""
    ) -> tuple[Submitted, Outcome]:
        """Store a job. With a digest its payload is one of several attempts'. The outcome is `WON` or `LOST`.

        Raises UnknownOutcomeError if nobody can say yet whether the job was taken, what `Cubbyholes.store` raises if it
        is in one, and what `stint_api.errors` answers.
        """
        envelope, stamp = submission.envelope, identity.stamp(self.now())
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
        expiry, sealed = await both(self._wrap_expiry(envelope.wrap_secret_id), self._sealed(submission))
        ticket = Ticket(wrap_secret_id=envelope.wrap_secret_id, payload_sha256="", wrap_expires_at=expiry)
        write = partial(self._write, job_id, draft, ticket, key)
        try:
            if not envelope.in_cubbyhole:
                return await write(sealed)
            waited = self.cubbyholes.free.locked()
            async with self.cubbyholes.free:
                if waited or not digest:  # with a digest the log was read a moment ago
                    await self.log.load(job_id)  # NATS answers: else nothing is spent
                return await self.cubbyholes.store(identity, envelope, sealed.payload, write)
        except (UnknownOutcomeError, VaultUnavailableError):
            raise
        except StintError:  # the job is not in the log
            await self._forget(key)
            raise

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
        """Store the key, also when cancelled: Vault could carry the request out after `_forget`'s."""
        if self.keys and key:
            storing = asyncio.ensure_future(self.keys.store(key))
            try:
                await asyncio.shield(storing)
            finally:
                await asyncio.wait({storing})

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
