"""Submissions for tests, and what became of them."""

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

import httpx

from stint.core.events import Submitted
from stint.core.job import Job
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import event_filter
from stint.jetstream import Broker, JetStreamEventLog
from stint.ports import Outcome
from stint.vault import AppRoleSession, Ticket, open_ticket
from stint.vault.erasure import PayloadKey, decrypted, key_of
from stint.vault.policies import KEYS
from stint_runner.inputs.opening import Opener
from stint_runner.inputs.payload import Opened
from tests.support.api_bench import SEALED, Bench, secret, service_environ
from tests.support.events import utc_now
from tests.support.servers import OpenBao
from tests.support.vault_bench import ROLE


@dataclass
class Client:
    """Posts bodies with a key that nobody else has."""

    bench: Bench
    key: str = field(default_factory=secret)
    qname: str = field(default_factory=lambda: secret().lower())

    async def post(self, http: httpx.AsyncClient | None = None, **fields: Any) -> httpx.Response:
        body = {"qname": self.qname, "wrap_secret_id": "not-looked-at", "payload": SEALED, **fields}
        return await (http or self.bench.http).post("/v1/api/job", json=body, headers={"Idempotency-Key": self.key})

    async def take(self, http: httpx.AsyncClient | None = None, **fields: Any) -> str:
        answer = await self.post(http, **fields)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"_id": answer.json()["_id"], "status": "queued", "qname": self.qname}
        return str(answer.json()["_id"])

    async def job(self, job_id: str) -> Job:
        return await self.bench.load(job_id)

    async def submissions(self) -> int:
        """How many the log has for this queue. WORK gets its copies a moment later."""
        return await messages(self.bench, EVENTS, event_filter(Submitted.kind, queue_token(self.qname)))


class UnsureLog(JetStreamEventLog):
    """The real log, whose answers to appends are lost. What is appended `arrives`, or not."""

    def __init__(self, broker: Broker, *, arrives: bool = True) -> None:
        super().__init__(broker)
        self._arrives = arrives

    async def append(self, *event: Any, **condition: Any) -> Outcome:
        if self._arrives:
            await super().append(*event, **condition)
        return Outcome.UNKNOWN


async def messages(bench: Bench, stream: str, subject: str) -> int:
    info = await bench.broker.api(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
    return sum((info["state"].get("subjects") or {}).values())


def submitted(job: Job) -> Submitted:
    event = job.fact(Submitted)
    assert event is not None
    return event


async def stored(bench: Bench, job: Job) -> tuple[bytes, Ticket]:
    """A job's payload as it was sealed, and its ticket."""
    payload, ticket = await _as_stored(bench, job)
    if name := key_of(payload):
        found = await bench.vault.read(bench.root, f"{KEYS}/{name}")
        assert found
        assert found.data
        payload = decrypted(payload, PayloadKey(name, base64.b64decode(found.data["key"])))
    assert hashlib.sha256(payload).hexdigest() == ticket.payload_sha256
    return payload, ticket


async def _as_stored(bench: Bench, job: Job) -> tuple[bytes, Ticket]:
    """A job's payload as a runner gets it, and its ticket."""
    event = submitted(job)
    ticket = await open_ticket(bench.vault, bench.root, event.ticket, queue_token=job.token, job_id=job.job_id)
    payload = await bench.parts.payloads.get(job.token, job.job_id, event.payload_chunks, attempt=event.payload_try)
    return payload, ticket


async def in_cubbyhole(bench: Bench, payload: str = SEALED) -> dict[str, Any]:
    """The fields of a job that lies in a cubbyhole, to be read once."""
    token = await bench.cubbyhole({"payload": payload})
    return {"payload": "", "cubby_token": token, "cubby_path": "cubbyhole/job"}


async def opened(bench: Bench, job: Job, qname: str, *, compat: bool = True) -> Opened:
    """As a runner does."""
    environ = await service_environ("", OpenBao(bench.vault.address, bench.root))
    session = AppRoleSession(bench.vault, environ["STINT_RUNNER_ROLE_ID"], environ["STINT_RUNNER_SECRET_ID"])
    opener = Opener(vault=bench.vault, session=session, role=ROLE, role_id="", compat=compat, now=utc_now)
    payload, ticket = await _as_stored(bench, job)
    try:
        sealed = await opener.sealed(payload)
        opened = await opener.payload(sealed, ticket, qname)
    finally:
        await session.close()
    assert opened is not None, "the runner's own token decrypts it"
    return opened
