"""Submit a job straight to NATS, without the REST API.

Needs NATS_URL (and STINT_NATS_CACERT and its like where NATS asks for more), VAULT_ADDR, and VAULT_TOKEN with the
policy `stint-publisher`. Prints the job's id, or says in a sentence why there is none, or why that is not known.
"""

import asyncio
import hashlib
import os
import random
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError

from stint.client.submitting.submission import needs, wrapped_secret_id
from stint.core.codec import encode
from stint.core.errors import StintError
from stint.core.events import Submitted
from stint.core.names.ids import new_job_id, queue_token
from stint.core.names.subjects import EventAddress, payload_subject
from stint.core.submission.payload import JobPayload
from stint.jetstream import Access
from stint.jetstream.wire.failures import reason_of
from stint.process.environment import load
from stint.process.settings import Settings
from stint.publisher import SubmissionInDoubtError, signing
from stint.vault import Ticket, Vault, seal_ticket

CHUNK = 512 * 1024
TOO_MANY_REQUESTS = 10167
"""NATS has dropped a message, because too many others wait. Nothing of it was stored."""
REPEATED = 8.0
"""Seconds for which such a message is published again."""


async def raised_anyway(_error: Exception) -> None:
    """The client would log each error with a traceback."""


async def store(
    stream: JetStreamContext, subject: str, body: bytes, into: str, headers: Mapping[str, str] | None = None
) -> PubAck:
    """Publish a message to a stream; again, if NATS has dropped it."""
    end = time.monotonic() + REPEATED
    while True:
        try:
            return await stream.publish(subject, body, stream=into, headers=dict(headers or {}))
        except APIError as error:
            if error.err_code != TOO_MANY_REQUESTS or time.monotonic() >= end:
                raise
        await asyncio.sleep(random.uniform(0.005, 0.03))  # noqa: S311 - jitter


async def publish(access: Access, vault_addr: str, token: str, job: JobPayload, role: str = "stint-job") -> str:
    """Seal a job, store its payload, then announce it. Returns its id."""
    vault, (access, signer) = Vault(vault_addr), signing(access, token)
    queue, job_id = queue_token(job.qname), new_job_id(time.time_ns() // 1_000_000, secrets.token_bytes(6))
    sealed = (await vault.encrypt(token, role, encode(job))).encode()
    wrapped = await wrapped_secret_id(vault, token, role=role, wrap_ttl="24h")
    ticket = Ticket(wrap_secret_id=wrapped, payload_sha256=hashlib.sha256(sealed).hexdigest())
    chunks = [sealed[start : start + CHUNK] for start in range(0, len(sealed), CHUNK)]
    submitted = Submitted(
        event_id=secrets.token_hex(16),
        at=datetime.now(UTC).isoformat(),
        by="publish.py",
        by_nats_user=signer.nkey,
        qname=job.qname,
        ticket=await seal_ticket(vault, token, ticket, queue_token=queue, job_id=job_id),
        payload_chunks=len(chunks),
        payload_bytes=len(sealed),
    )
    async with access.client() as connection:
        # pending_size=0: while disconnected a publish must fail, not be sent later.
        options = {**access.options(), "pending_size": 0, "allow_reconnect": False, "error_cb": raised_anyway}
        options["max_reconnect_attempts"] = 1  # of the first connection: nats-py would try for two minutes
        await connection.connect(access.servers, **options)
        stream = connection.jetstream()
        for number, chunk in enumerate(chunks):
            await store(stream, payload_subject(queue, job_id, number), chunk, "PAYLOADS")
        subject, body = EventAddress("submitted", queue, job_id).subject, encode(submitted)
        try:
            ack = await store(stream, subject, body, "EVENTS", signer.headers(subject, body))
        except TimeoutError:  # also if the connection was lost
            raise SubmissionInDoubtError(job_id) from None
        if ack.duplicate or not ack.seq:
            raise SystemExit("NATS did not store the job.")
    return job_id


def main(demo: JobPayload) -> str:
    """Publish a job with what the environment says; returns its id."""
    try:
        _, vault_addr, token = (os.environ[name] for name in ("NATS_URL", "VAULT_ADDR", "VAULT_TOKEN"))
        access = Access.of(load(Settings, os.environ))
        with needs("stint-publisher"):
            return asyncio.run(publish(access, vault_addr, token, demo))
    except KeyError as error:
        raise SystemExit(f"Set {error.args[0]}.") from None
    except StintError as error:
        raise SystemExit(error.sentence) from None
    except (nats.errors.Error, OSError) as error:
        raise SystemExit(f"NATS does not take the job: {reason_of(error)}") from None


if __name__ == "__main__":
    print(main(JobPayload(qname="deploys", container_image="busybox", run=("echo", "hello"))))
