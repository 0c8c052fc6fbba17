"""A direct publisher, as the documents describe one: NATS, Vault's HTTP API, and nothing of Stint's own code."""

import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import nats
from nats.js import JetStreamContext

from tests.api.client import Api, Json


def queue_token(qname: str) -> str:
    return base64.b32encode(qname.lower().encode()).decode().rstrip("=").lower() or "_"


@dataclass(frozen=True)
class Publisher:
    api: Api
    stream: JetStreamContext

    async def ticket(self, qname: str, job_id: str, **fields: str) -> str:
        """A ticket for this queue and job."""
        binding = f"stint1.{queue_token(qname)}.{job_id}"
        return await self.api.vault.encrypt(json.dumps(fields).encode(), key="stint-bus", binding=binding)

    async def publish(self, job: Json, *, stored: str = "", ticket: str = "", wrapped: str = "") -> str:
        """Submit a job; returns its id. `stored` goes to the bus in place of what the ticket speaks of."""
        job_id, qname = secrets.token_hex(12), job["qname"]
        sealed = await self.api.vault.sealed(job)
        digest = hashlib.sha256(sealed.encode()).hexdigest()
        wrapped = wrapped or await self.api.vault.wrapped()
        payload = (stored or sealed).encode()
        await self.stream.publish(f"pl.{queue_token(qname)}.{job_id}.0", payload)
        ticket = ticket or await self.ticket(qname, job_id, wrap_secret_id=wrapped, payload_sha256=digest)
        fact: Json = {
            "type": "submitted",
            "event_id": secrets.token_hex(16),
            "at": "2026-01-01T00:00:00Z",
            "by": "suite",
        }
        fact |= {"qname": qname, "ticket": ticket, "payload_chunks": 1, "payload_bytes": len(payload)}
        await self.submitted(qname, job_id, json.dumps(fact).encode())
        return job_id

    async def submitted(self, qname: str, job_id: str, fact: bytes) -> None:
        await self.stream.publish(f"ev.{job_id}.{queue_token(qname)}.submitted", fact)


@asynccontextmanager
async def publisher(api: Api) -> AsyncIterator[Publisher]:
    connection = await nats.connect(api.env["NATS_URL"], pending_size=0, nkeys_seed=api.env.get("STINT_NATS_NKEY_FILE"))
    try:
        yield Publisher(api, connection.jetstream())
    finally:
        await connection.close()
