"""How a job comes to be sealed: by its client, through a cubbyhole or in the request, or here."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import stamina
from msgspec.structs import replace

from stint.core.codec import encode
from stint.core.errors import (
    BrokerUnavailableError,
    StintError,
    TooLargeError,
    UndecodableError,
    VaultError,
    VaultRefusedError,
    VaultUnavailableError,
)
from stint.core.events import TEXT_LENGTH, Submitted
from stint.core.submission.limits import check_limits
from stint.core.submission.payload import JobPayload
from stint.ports import Outcome
from stint.vault import Encryptor, Vault, check_path, error_text
from stint_api.auth import CACHE_SIZE, Identity, Memory
from stint_api.errors import RefusalError, UnknownOutcomeError, refusal_of
from stint_api.submit.body import Envelope, Sealed, Submission, check_content, check_sealed

LARGE: Final = 1024 * 1024
"""Bytes of a request from which on its job is large."""
LARGE_AT_A_TIME: Final = 1
"""While the largest one is sealed, the API holds it about ten times over."""

PATIENCE: Final = 10.0
"""Seconds for which a job whose cubbyhole was read is stored again and again while NATS or Vault is unavailable."""
AT_A_TIME: Final = 4
"""Cubbyholes that are read: only Vault knows how much one contains, up to its own limit on requests."""
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


class CubbyholeError(RefusalError):
    """The cubbyhole gives no payload: somebody else has read it, or there never was one."""

    def __init__(self, why: str) -> None:
        alert = "POSSIBLE SECURITY/INTERCEPTION ALERT!!! Failed to read cubbyhole from vault, error: "
        super().__init__(HTTPStatus.INTERNAL_SERVER_ERROR, alert + why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealer:
    """Gets or makes the sealed payload of a submission. `large` lets few of the large ones be sealed at a time.

    With `compat`, job fields beside a sealed payload count, as GoStint has it: they are sealed too, as a second line.
    """

    vault: Vault
    payloads: Encryptor
    compat: bool = False
    large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_AT_A_TIME))

    async def seal(self, submission: Submission) -> Sealed:
        """The payload of a submission that brings it along, or whose own fields are the job."""
        if submission.sealed:
            return await submission.sealed()
        if submission.envelope.payload:
            return Sealed(check_sealed(submission.envelope.payload) + await self.own_fields(submission))
        job = replace(submission.job, qname=submission.qname)
        image = job.container_image[:TEXT_LENGTH]
        return Sealed(await self._encrypt(job, submission.size), container_image=image, tty=job.tty)

    async def own_fields(self, submission: Submission) -> bytes:
        """The request's own job fields as a second line, where they count. `on_lost` stands in the fact."""
        job = replace(submission.job, qname=submission.qname)
        if not self.compat or replace(job, qname="", on_lost="") == JobPayload():
            return b""
        return b"\n" + await self._encrypt(job, submission.size)

    async def read_cubbyhole(self, envelope: Envelope) -> str:
        """What lies in a cubbyhole as the payload, whatever it is. Spends a use of the cubbyhole's token.

        Raises UndecodableError if `cubby_path` is not a path, CubbyholeError if it could not be read, and
        VaultUnavailableError if Vault did not answer: it may have been read, or not.
        """
        try:
            path = check_path(envelope.cubby_path)
        except VaultRefusedError:
            raise UndecodableError("The cubby_path is not a Vault path.") from None
        try:
            found = await self.vault.read(envelope.cubby_token, path)
        except VaultUnavailableError:
            raise
        except VaultError as error:
            raise CubbyholeError(error_text(error)) from None
        payload = found.data.get("payload") if found and found.data else None
        if not isinstance(payload, str):
            raise CubbyholeError(f"no payload at {path}")
        return payload

    async def _encrypt(self, job: JobPayload, size: int) -> bytes:
        check_content(job.content)
        check_limits(job)
        async with self.large if size > LARGE else nullcontext():
            plain = encode(job)
            try:
                sealed = await self.payloads.encrypt(plain)
            except VaultRefusedError as error:
                if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                    raise TooLargeError("The job is larger than Vault takes.") from None
                raise
        return sealed.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cubbyholes:
    """Reads cubbyholes, and has what they held stored. Once one is read, what it held is nowhere but here.

    So everything that can fail before that is done before; what can be tried again after it is tried again; and a
    failure all the same is remembered: a caller that repeats the request is told of it, and gets no alarm about a
    reading that was ours. `free` lets few be read at a time.
    """

    sealer: Sealer
    patience: float = PATIENCE
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_A_TIME))
    _spent: Memory[RefusalError] = field(default_factory=lambda: Memory(time.monotonic, CACHE_SIZE))
    _reading: Counter[str] = field(default_factory=Counter)
    """Requests that read a cubbyhole, or store what it held."""

    async def store(
        self, identity: Identity, envelope: Envelope, own: bytes, write: Write
    ) -> tuple[Submitted, Outcome]:
        """Read a cubbyhole and write what it held, with `own` behind it.

        Raises:
            CubbyholeError: it cannot be read; `why_spent` may know why.
            VaultUnavailableError: likewise, and it is not known whether it was read.
            UnknownOutcomeError: it was read, and nobody can say yet whether the job was taken.
            RefusalError: it was read, and the job could not be stored.
        """
        key = _key(identity, envelope)
        self._reading[key] += 1
        try:
            return await self._store(key, envelope, own, write)
        finally:
            self._reading.subtract([key])
            if not self._reading[key]:
                del self._reading[key]

    def is_read(self, identity: Identity, envelope: Envelope) -> bool:
        """Whether a request of this caller reads this cubbyhole now, or has, and stores the job."""
        return _key(identity, envelope) in self._reading

    def why_spent(self, identity: Identity, envelope: Envelope) -> RefusalError | None:
        """Why the job of this cubbyhole, which we have read before, was not stored; None if we have not read it."""
        known = self._spent.get(_key(identity, envelope))
        return known.again() if known else None

    async def _store(self, key: str, envelope: Envelope, own: bytes, write: Write) -> tuple[Submitted, Outcome]:
        try:
            payload = await self.sealer.read_cubbyhole(envelope)
        except VaultUnavailableError as error:
            if error.code not in _NOT_DONE:
                self._spent.put(key, RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, _DOUBT), REMEMBERED)
            raise
        try:
            return await self._write(write, payload, own)
        except RefusalError as refusal:
            self._spent.put(key, refusal.again(), REMEMBERED)
            raise

    async def _write(self, write: Write, payload: str, own: bytes) -> tuple[Submitted, Outcome]:
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


def _key(identity: Identity, envelope: Envelope) -> str:
    return f"{identity.caller}\0{envelope.cubby_token}\0{envelope.cubby_path}"
