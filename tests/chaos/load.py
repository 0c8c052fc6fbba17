"""Sends the jobs, some in the ways that go wrong, and notes what it was told."""

import asyncio
import contextlib
import itertools
import secrets
import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import httpx
import msgspec

from stint.core.codec import encode
from stint.core.errors import BrokerUnavailableError
from stint.core.events import Submitted
from stint.core.names.ids import new_job_id, queue_token
from stint.core.submission.payload import JobPayload
from stint.jetstream import JetStreamEventLog, JetStreamPayloads
from stint.ports import Outcome
from stint.vault import Ticket, Vault, seal_ticket
from stint_runner.retry import retry
from tests.chaos.evidence import Answer, Submission
from tests.chaos.jobs import JobPlan, jobs
from tests.chaos.world import World
from tests.support.vault_bench import ROLE, wrapped_secret_id

WRAP_TTL: Final = "7200s"
"""Longer than any run: nothing is to expire in a queue."""
AGAIN: Final = 0.25
"""Seconds until a server that was away is tried again."""
TRIES: Final = 40


class Load:
    """Sends a plan's jobs, and keeps what came of them."""

    def __init__(self, world: World) -> None:
        self.submissions: list[Submission] = []
        self._world = world
        self._vault, self._root = Vault(world.bao.address), world.bao.root_token
        self._log = JetStreamEventLog(world.broker)
        self._payloads = JetStreamPayloads(world.broker)
        options: dict[str, Any] = {"headers": {"X-Auth-Token": world.token}, "trust_env": False, "timeout": 15}
        self._apis = [httpx.AsyncClient(base_url=url, **options) for url in world.api_urls]
        self._turns = itertools.count()

    async def run(self) -> None:
        """Send all, evenly over the plan's time, and do to some what is planned for them."""
        plan, loop = self._world.plan, asyncio.get_running_loop()
        start, ready = loop.time(), [*jobs(plan)]
        async with self._vault, asyncio.TaskGroup() as group:
            for number, job in enumerate(ready):
                await asyncio.sleep(start + plan.seconds * number / len(ready) - loop.time())
                group.create_task(self._publish(job) if job.via == "publish" else self._post(job))

    async def close(self) -> None:
        for api in self._apis:
            await api.aclose()

    def _payload(self, job: JobPlan) -> JobPayload:
        return job.payload(self._world.image, self._world.truth_for_jobs)

    async def _wrapped(self) -> str:
        return await retry(lambda: wrapped_secret_id(self._vault, self._root, ROLE, WRAP_TTL))

    async def _sealed(self, job_id: str, job: JobPayload) -> tuple[bytes, str]:
        """What a publisher needs of a job: its payload, and its ticket."""
        payload = (await self._vault.encrypt(self._root, ROLE, encode(job))).encode()
        ticket = Ticket(wrap_secret_id=await self._wrapped(), payload_sha256=sha256(payload).hexdigest())
        token = queue_token(job.qname)
        return payload, await seal_ticket(self._vault, self._root, ticket, queue_token=token, job_id=job_id)

    def _note(self, job: JobPlan, job_id: str, answer: Answer) -> None:
        sent = Submission(key=job.key, queue=job.queue, job_id=job_id, answer=answer, lines=job.lines, hold=job.hold)
        self.submissions.append(sent)

    async def _publish(self, job: JobPlan) -> None:
        token, job_id = queue_token(job.queue), new_job_id(time.time_ns() // 10**6, secrets.token_bytes(6))
        payload, ticket = await retry(lambda: self._sealed(job_id, self._payload(job)))
        chunks = await retry(lambda: self._payloads.put(token, job_id, payload))
        fact = Submitted(
            event_id=secrets.token_hex(8),
            at=datetime.now(UTC).isoformat(),
            by="chaos",
            qname=job.queue,
            ticket=ticket,
            payload_chunks=chunks,
            payload_bytes=len(payload),
            on_lost="hold" if job.hold else "",
        )
        answer = await self._appended(token, job_id, fact, doubt=job.doubt)
        self._note(job, job_id, answer)
        if answer is Answer.TAKEN:
            await self._fate(job, job_id)

    async def _appended(self, token: str, job_id: str, fact: Submitted, *, doubt: bool) -> Answer:
        """The same fact again and again, as a publisher may; one in doubt leaves it at that."""
        while True:
            try:
                outcome = await self._log.append(token, job_id, fact)
            except BrokerUnavailableError:
                outcome = Outcome.UNKNOWN
            if outcome is Outcome.WON:
                return Answer.TAKEN
            if doubt or outcome is Outcome.LOST:
                return Answer.UNKNOWN
            await asyncio.sleep(AGAIN)

    async def _post(self, job: JobPlan) -> None:
        body = msgspec.to_builtins(self._payload(job)) | {"wrap_secret_id": await self._wrapped()}
        headers = {"Idempotency-Key": job.key} if job.via == "key" else {}
        answer, job_id = Answer.UNKNOWN, ""
        for _ in range(TRIES if headers else 1):
            answer, told = await self._posted(body, headers)
            job_id = told or job_id
            if answer is Answer.TAKEN:
                break
            await asyncio.sleep(AGAIN if headers else 0)
        if answer is Answer.TAKEN and headers and job.again:
            again, same = await self._posted(body, headers)
            if again is Answer.TAKEN and same != job_id:
                self._note(job, same, again)  # a second job of one key: its command will be seen to run twice
        if headers and answer is not Answer.TAKEN:
            answer = Answer.UNKNOWN  # an earlier try may have been taken
        self._note(job, job_id, answer)
        if answer is Answer.TAKEN:
            await self._fate(job, job_id)

    async def _posted(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[Answer, str]:
        try:
            answer = await self._api().post("/v1/api/job", json=body, headers=headers)
            told = str(answer.json().get("_id") or "")
        except (httpx.TransportError, ValueError):
            return Answer.UNKNOWN, ""
        if answer.status_code == httpx.codes.OK:
            return Answer.TAKEN, told
        return (Answer.UNKNOWN, told) if told else (Answer.REFUSED, "")

    def _api(self) -> httpx.AsyncClient:
        return self._apis[next(self._turns) % len(self._apis)]

    async def _fate(self, job: JobPlan, job_id: str) -> None:
        if job.fate == "kill":
            await asyncio.sleep(job.after)
            await self._ask("POST", f"/v1/api/job/kill/{job_id}")
        elif job.fate:
            await asyncio.sleep(4 * job.after if job.fate == "delete late" else 0)
            await self._ask("DELETE", f"/v1/api/job/{job_id}")

    async def _ask(self, method: str, path: str) -> None:
        """Until somebody answers; what the answer is does not matter here."""
        for _ in range(TRIES):
            with contextlib.suppress(httpx.TransportError):
                if (await self._api().request(method, path)).status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    return
            await asyncio.sleep(AGAIN)

    async def release(self, job_id: str) -> None:
        """Give up the runner of a held job, if the API answers and agrees."""
        with contextlib.suppress(httpx.TransportError):
            await self._api().post(f"/v1/api/job/{job_id}/release")
