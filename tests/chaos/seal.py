"""Seals jobs by the score: Vault's requests are the dearest part of a load."""

import asyncio
import base64
import contextlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import httpx
import msgspec

from stint.core.codec import encode
from stint.core.names.ids import queue_token
from stint.core.submission.payload import JobPayload
from stint.vault import BUS_KEY, Ticket
from tests.support.vault_bench import ROLE

WRAP_TTL: Final = "7200s"
"""Longer than any run: nothing is to expire in a queue."""
AGAIN: Final = 0.25
"""Seconds until Vault is asked again while it is sealed."""


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What a publisher needs of a job."""

    job_id: str
    queue: str
    payload: bytes
    ticket: str

    def __repr__(self) -> str:
        return f"Sealed({self.job_id})"


class Sealer:
    """Waits for Vault for as long as it is away."""

    def __init__(self, address: str, token: str) -> None:
        self._http = httpx.AsyncClient(base_url=address, headers={"X-Vault-Token": token}, trust_env=False, timeout=30)

    async def wrapped(self) -> str:
        """A wrapping token of a new secret id of the jobs' role."""
        path = f"/v1/auth/approle/role/{ROLE}/secret-id"
        answer = await self._post(path, {}, {"X-Vault-Wrap-TTL": WRAP_TTL})
        return str(answer["wrap_info"]["token"])

    async def seal(self, jobs: Sequence[tuple[str, JobPayload]]) -> list[Sealed]:
        """Ids and what to run, sealed in two requests and one more for each."""
        plain = [{"plaintext": _base64(encode(payload))} for _, payload in jobs]
        payloads = [item.encode() for item in await self._encrypt(ROLE, plain)]
        wraps = await asyncio.gather(*(self.wrapped() for _ in jobs))
        tickets = [
            {
                "plaintext": _base64(encode(Ticket(wrap_secret_id=wrap, payload_sha256=sha256(payload).hexdigest()))),
                "associated_data": _base64(f"stint1.{queue_token(job.qname)}.{job_id}".encode()),
            }
            for (job_id, job), payload, wrap in zip(jobs, payloads, wraps, strict=True)
        ]
        sealed = await self._encrypt(BUS_KEY, tickets)
        return [
            Sealed(job_id=job_id, queue=job.qname, payload=payload, ticket=ticket)
            for (job_id, job), payload, ticket in zip(jobs, payloads, sealed, strict=True)
        ]

    async def _encrypt(self, key: str, batch: Sequence[Mapping[str, str]]) -> list[str]:
        answer = await self._post(f"/v1/transit/encrypt/{key}", {"batch_input": batch})
        return [item["ciphertext"] for item in answer["data"]["batch_results"]]

    async def _post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await self._http.post(path, json=body, headers=headers)
                if answer.status_code == httpx.codes.OK:
                    return answer.json()
            await asyncio.sleep(AGAIN)

    async def close(self) -> None:
        await self._http.aclose()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
