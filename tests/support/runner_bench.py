"""A fleet of runners in this process, and a publisher that can do everything wrong."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiodocker
import msgspec

from stint.core.codec import encode
from stint.core.events import Ended, Submitted
from stint.core.job import Job, State
from stint.core.names.headers import LABEL_JOB, LABEL_RUNNER
from stint.core.names.ids import queue_token
from stint.core.submission.payload import JobPayload
from stint.jetstream import (
    Broker,
    JetStreamEventLog,
    JetStreamOutput,
    JetStreamPauses,
    JetStreamPayloads,
    JetStreamWorkQueues,
)
from stint.ports import Delivery, Outcome
from stint.process.settings import RunnerSettings
from stint.vault import BUS_KEY, AppRoleSession, Vault
from stint.vault.ticket import binding
from stint_runner import __main__ as root
from stint_runner.dispatch.adopt import Adoption
from stint_runner.dispatch.dispatcher import Dispatcher
from stint_runner.dispatch.worker import Worker
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import ContainerInfo, ContainerSpec, Engine
from stint_runner.housekeeping.leftovers import Leftovers
from stint_runner.runner import Runner
from stint_runner.watchdog.deadlines import Deadlines
from tests.support.brokers import declare_anew, delivered, loaded, work_queues
from tests.support.events import AT, QUEUE, kill_requested, utc_now
from tests.support.outputs import written
from tests.support.scripts import lasting
from tests.support.servers import OpenBao
from tests.support.vault_bench import ROLE, set_up, wrapped_secret_id
from tests.support.waiting import until

NETWORK = "none"
"""Of jobs that name none: a bridge would take half of their time. Those of `tests/api` have what users have."""


@dataclass
class Bench:
    """Real NATS, Vault and Docker, and what a test asks of them. `state` is the folder for its runners' state."""

    broker: Broker
    openbao: OpenBao
    image: str
    role_settings: dict[str, str]
    state: Path
    runners: dict[str, Runner] = field(default_factory=dict)
    dispatchers: dict[str, Dispatcher] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.vault = Vault(self.openbao.address)
        self.publishers_vault = Vault(self.openbao.address)
        """Another way to the same Vault, whatever a test does to the runners'."""
        self.log = JetStreamEventLog(self.broker)
        self.payloads = JetStreamPayloads(self.broker)
        self.output = JetStreamOutput(self.broker)
        self.pauses = JetStreamPauses(self.broker)

    async def wrapped(self, role: str = ROLE, ttl: str = "600s") -> str:
        return await wrapped_secret_id(self.publishers_vault, self.openbao.root_token, role, ttl)

    async def submit(self, run: str = "true", *, queue: str = QUEUE, job_id: str = "", **options: Any) -> str:
        """Publish a job as a direct publisher does; returns its id."""
        job_id = job_id or secrets.token_hex(12)
        fact = await self.submission(job_id, run, queue=queue, **options)
        assert (await self.log.append(queue_token(queue), job_id, fact)).value == "won"
        return job_id

    async def submission(
        self,
        job_id: str,
        run: str = "true",
        *,
        queue: str = QUEUE,
        payload: dict[str, Any] | None = None,
        tamper: bool = False,
        on_lost: str = "",
        ticket_for: str = "",
        **ticket: str,
    ) -> Submitted:
        """What announces a job, whose payload is stored. Its ticket may be one of another job."""
        token = queue_token(queue)
        job = {"qname": queue, "container_image": self.image, "run": ["sh", "-c", lasting(run)], **(payload or {})}
        plain = encode(msgspec.convert(job, JobPayload))
        root = self.openbao.root_token
        sealed = (await self.publishers_vault.encrypt(root, ROLE, plain)).encode()
        digest = hashlib.sha256(sealed).hexdigest()
        chunks = await self.payloads.put(token, job_id, sealed[:-4] + b"AAAA" if tamper else sealed)
        made = {
            "wrap_secret_id": ticket.get("wrap_secret_id") or await self.wrapped(),
            "payload_sha256": digest,
            "wrap_expires_at": ticket.get("wrap_expires_at", ""),
        }
        bound = binding(token, ticket_for or job_id)
        sealed_ticket = ticket.get("ticket") or await self.publishers_vault.encrypt(
            root, BUS_KEY, msgspec.json.encode(made), associated_data=bound
        )
        return Submitted(
            event_id=secrets.token_hex(8),
            at=AT,
            by="tests",
            qname=queue,
            ticket=sealed_ticket,
            payload_chunks=chunks,
            payload_bytes=len(sealed),
            on_lost=on_lost,
        )

    async def running(self, script: str, *, queue: str = QUEUE, **options: Any) -> str:
        """A job that has written its first piece of output."""
        job_id = secrets.token_hex(12)
        async with written(self.output, queue_token(queue), job_id) as tail, asyncio.timeout(60):
            await self.submit(script, queue=queue, job_id=job_id, **options)
            await anext(tail)
        return job_id

    async def ended(self, script: str, **payload: Any) -> tuple[Job, Ended, str]:
        """A job from its submission to its end, and its output."""
        job, end = await self.end(await self.submit(script, payload=payload))
        return job, end, await self.text(job)

    async def ends_well(self, *job_ids: str) -> None:
        """These jobs succeed."""
        for job_id in job_ids:
            job, end = await self.end(job_id)
            assert job.state is State.SUCCESS, end.error

    async def containers(self, job_id: str) -> Sequence[ContainerInfo]:
        """A job's containers on this machine's engine."""
        engine = DockerEngine()
        try:
            return await engine.find({LABEL_JOB: job_id})
        finally:
            await engine.close()

    async def go_on(self, job_id: str) -> None:
        """Let a job of `in_steps` that has written something take its next step."""
        (container,) = await self.containers(job_id)
        async with aiodocker.Docker() as docker:
            await docker.containers.container(container.container_id).kill(signal="USR1")

    async def until(self, job_id: str, *kinds: str) -> Job:
        """The job once one of these facts has happened."""
        async with asyncio.timeout(60), self.log.follow(job_id) as changed:
            while True:
                changed.clear()
                job = await self.log.load(job_id)
                if job is not None and any(kind in job.facts for kind in kinds):
                    return job
                await changed.wait()

    async def end(self, job_id: str) -> tuple[Job, Ended]:
        job = await self.until(job_id, "ended", "rejected")
        return job, job.fact(Ended) or Ended(event_id="", at="", status=job.state)

    async def text(self, job: Job) -> str:
        chunks = [chunk.data async for chunk in self.output.read(job.token, job.job_id)]
        return b"".join(chunks).decode()

    async def loaded(self, job_id: str) -> Job:
        return await loaded(self.log, job_id)

    async def append_kill(self, job_id: str) -> Outcome:
        """Ask for a job's end."""
        return await self.log.append((await self.loaded(job_id)).token, job_id, kill_requested())

    async def declare(self) -> None:
        """Make the streams that are missing."""
        await declare_anew(self.broker)

    async def container(self, engine: Engine, job_id: str) -> str:
        """A container that was left behind by somebody."""
        marks = {LABEL_JOB: job_id, LABEL_RUNNER: "gone"}
        return await engine.create(ContainerSpec(image=self.image, command=("sleep", "600"), labels=marks))

    def leftovers(self, runner: str) -> Leftovers:
        """What the runner removes leftovers with."""
        return Leftovers(self.runners[runner], self.dispatchers[runner])

    async def pulled(self, token: str, lease: float) -> Delivery:
        """A queue's next job, received by nobody who would run it."""
        return await delivered(await work_queues(self.broker, lease=lease), token)

    def engine(self, runner: str = "runner-1") -> Engine:
        """The engine of a runner of this bench."""
        return self.runners[runner].engine

    async def settled(self) -> None:
        """Until no job is pending any more."""
        queues = JetStreamWorkQueues(self.broker, lease=30)
        await until(queues.pending, lambda found: not found)

    @asynccontextmanager
    async def runner(self, name: str = "runner-1", *, capacity: int = 4, **options: Any) -> AsyncIterator[Worker]:
        """A runner for the duration of the block; then it drains."""
        queues = await work_queues(self.broker, options.get("queues", ""), lease=options.pop("lease", 30.0))
        engine = options.pop("engine", None) or DockerEngine()
        settings = dict(self.role_settings)
        now = options.pop("now", utc_now)
        session = AppRoleSession(self.vault, settings["STINT_RUNNER_ROLE_ID"], settings["STINT_RUNNER_SECRET_ID"])
        deadlines = Deadlines(self.state / name)
        assert deadlines.open(), "another runner of this name"
        fields = {"runner_id": name, "vault_addr": self.openbao.address, "role": ROLE, "job_network": NETWORK}
        given = RunnerSettings.model_construct(None, **fields | options, role_id=settings["STINT_ROLE_ID"])
        clock: Any = SimpleNamespace(now=now)
        made = root.build(given, self.broker, self.vault, session, engine, deadlines, queues, clock)
        runner = replace(made, log=self.log, payloads=self.payloads, output=self.output, pauses=self.pauses)
        self.runners[name] = runner
        dispatcher = self.dispatchers[name] = Dispatcher(runner)
        adoption = Adoption(runner, dispatcher)
        await adoption.run(asyncio.Event())
        worker = Worker(queues, dispatcher, capacity=capacity)
        working = asyncio.create_task(worker.run(adoption.adopted))
        try:
            yield worker
            worker.drain()
            await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await session.close()
            await engine.close()
            deadlines.close()


async def make_bench(broker: Broker, openbao: OpenBao, image: str, folder: Path) -> Bench:
    return Bench(broker, openbao, image, dict(await set_up(openbao)), folder / "bench")
