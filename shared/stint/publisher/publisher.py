"""A publisher's connection to NATS, its key, and how it submits."""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Self, Unpack

from stint.client.fields import JobFields, payload_of
from stint.client.options import DEFAULT_WRAP_TTL, Endpoints, endpoints
from stint.client.submitting.submission import needs, wrapped_secret_id
from stint.core.codec import encode
from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.core.events import Submitted
from stint.core.names.ids import check_job_id, new_job_id, normalise_queue_name, queue_token
from stint.core.names.subjects import JS_PREFIX, EventAddress, payload_subject, publisher_inbox
from stint.core.submission.payload import JobPayload
from stint.jetstream import Access, Broker, EventSigner
from stint.jetstream.payloads import CHUNK_BYTES
from stint.jetstream.wire.protocol import EXPECTED_SEQUENCE, ErrorCode, NoAnswerError, check, error_code
from stint.jetstream.wire.requests import DeniedError
from stint.process.environment import load
from stint.process.settings import Settings
from stint.publisher.job import PublishedJob
from stint.vault.client import Vault
from stint.vault.policies import PUBLISHER
from stint.vault.ticket import Ticket, seal_ticket

CONNECTED_WITHIN: Final = 10.0
"""Seconds for the first connection."""
ATTEMPTS: Final = 3
"""Publishes of one message that is not acknowledged."""
ANSWER: Final = 5.0
"""Seconds for each answer."""


class SubmissionInDoubtError(BrokerUnavailableError):
    """NATS did not answer, so that it is not known whether the job `job_id` was submitted."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"NATS did not answer. It is not known whether job {job_id} was submitted.")
        self.job_id = job_id


class Publisher:
    """Seals jobs with Vault, and publishes them to NATS. It is for one event loop; use it with `async with`.

    Methods raise VaultError, BrokerUnavailableError and BrokerRefusedError; each error's `sentence` is for people.
    """

    def __init__(self, access: Access, where: Endpoints) -> None:
        """`where` gives Vault's address, the token and the role; its address of the API is not used."""
        self._where = where
        access, self._signer = signing(access, where.token)
        self._broker = Broker(access, name="publisher", prefix=JS_PREFIX)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """A publisher with the settings of the examples: NATS_URL or STINT_NATS_URL and its like, VAULT_ADDR and so on.

        Raises ConfigError if one is missing or wrong.
        """
        return cls(Access.of(load(Settings, environ)), endpoints(environ, publisher=True))

    async def __aenter__(self) -> Self:
        """Connect. Raises BrokerUnavailableError if NATS is not reachable, or does not let this user in."""
        self._broker.start()
        if not await self._broker.connected_within(CONNECTED_WITHIN):
            await self._broker.close()
            raise BrokerUnavailableError("NATS is not reachable, or does not let this publisher in.")
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._broker.close()

    async def submit(
        self, *, queue: str = "", wrap_ttl: str = DEFAULT_WRAP_TTL, **fields: Unpack[JobFields]
    ) -> PublishedJob:
        """Seal a job and publish it to its queue. From now on its events and output are heard.

        Raises:
            ConfigError: a field is wrong.
            VaultError: Vault cannot be reached, or refuses. Nothing has been submitted.
            BrokerRefusedError: this publisher may not submit to the queue, or NATS refuses. Nothing has been submitted.
            SubmissionInDoubtError: NATS did not answer. The job may have been submitted: see `job`.
            BrokerUnavailableError: NATS did not take the job. Nothing has been submitted.
        """
        payload = await asyncio.to_thread(payload_of, queue, fields)
        token, job_id = queue_token(payload.qname), new_job_id(time.time_ns() // 1_000_000, secrets.token_bytes(6))
        sealed, ticket = await self._seal(payload, token, job_id, wrap_ttl)
        chunks = [sealed[start : start + CHUNK_BYTES] for start in range(0, len(sealed), CHUNK_BYTES)]
        submitted = Submitted(
            event_id=secrets.token_hex(16),
            at=datetime.now(UTC).isoformat(),
            by="publisher",
            by_nats_user=self._signer.nkey,
            qname=payload.qname,
            ticket=ticket,
            payload_chunks=len(chunks),
            payload_bytes=len(sealed),
            on_lost=payload.on_lost,
        )
        job = PublishedJob(self._broker, self._signer, payload.qname, job_id, submitted)
        subject, body = EventAddress(Submitted.kind, token, job_id).subject, encode(submitted)
        async with job.heard():  # what is published before that is missed
            for number, chunk in enumerate(chunks):
                await _store(self._broker, payload_subject(token, job_id, number), chunk)
            try:
                await _store(self._broker, subject, body, self._signer.headers(subject, body))
            except NoAnswerError:
                raise SubmissionInDoubtError(job_id) from None
        return job

    async def job(self, queue: str, job_id: str) -> PublishedJob:
        """A job that was submitted before, by whomever. Nobody can tell whether it exists, until it has started.

        Raises InvalidQueueNameError or InvalidJobIdError if there can be none, BrokerUnavailableError without NATS.
        """
        name, known = normalise_queue_name(queue), check_job_id(job_id)
        job = PublishedJob(self._broker, self._signer, name, known)
        async with job.heard():
            return job

    async def _seal(self, payload: JobPayload, token: str, job_id: str, wrap_ttl: str) -> tuple[bytes, str]:
        where = self._where
        async with Vault(where.vault_addr, cacert=where.vault_cacert) as vault:
            with needs(PUBLISHER):
                sealed = (await vault.encrypt(where.token, where.role, encode(payload))).encode()
                wrapped = await wrapped_secret_id(vault, where.token, role=where.role, wrap_ttl=wrap_ttl)
                ticket = Ticket(wrap_secret_id=wrapped, payload_sha256=hashlib.sha256(sealed).hexdigest())
                return sealed, await seal_ticket(vault, where.token, ticket, queue_token=token, job_id=job_id)


async def _store(broker: Broker, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """Publish this message until NATS has acknowledged it. The subject is ours alone, so that it is safe to repeat.

    Raises NoAnswerError if it may be stored all the same, otherwise BrokerRefusedError if NATS refuses that, and
    BrokerUnavailableError if NATS did not take it.
    """
    doubtful = False
    for _ in range(ATTEMPTS):
        try:
            answer = await broker.publish(subject, body, {**(headers or {}), EXPECTED_SEQUENCE: "0"}, ANSWER)
        except NoAnswerError:
            doubtful = True
            await broker.connected_within(ANSWER)
            continue
        except (BrokerUnavailableError, BrokerRefusedError) as error:
            if doubtful:
                break
            if isinstance(error, DeniedError):
                raise BrokerRefusedError("NATS does not permit this publisher to submit to the queue.") from None
            raise
        code = error_code(answer)
        if doubtful and code == ErrorCode.WRONG_LAST_SEQUENCE:
            return
        # A stream that is full has looked for the message first; other refusals say nothing of the attempt before.
        if doubtful and code not in {0, ErrorCode.SUBJECT_TAKEN}:
            break
        check(answer)
        return
    raise NoAnswerError("NATS did not acknowledge the message.")


def signing(access: Access, token: str) -> tuple[Access, EventSigner]:
    """The signer for a connection, and the access that lets NATS know its key.

    A connection with an nkey or a credentials file signs with their seed. For one whose password is this Vault token
    a key is made, and named in the list of queues together with a signature, so that nobody else can log in with it.
    """
    if access.seed:
        return access, EventSigner(seed=access.seed)
    if not token or access.password != token:
        return access, EventSigner()
    signer = EventSigner.new()
    named = f"{access.user},={signer.signature(publisher_inbox(token), b'')}"
    return replace(access, user=named), signer
