"""What a runner finds of itself when it starts: jobs of an earlier process. With those that are its own it goes on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import structlog

from stint.errors import EngineError, LeaseLostError
from stint.eventlog import Delivery
from stint.events import Launched, Started
from stint.job import ACTIVE, Job, State
from stint.subjects import (
    LABEL_ACK,
    LABEL_JOB,
    LABEL_MASKED,
    LABEL_ORIGIN,
    LABEL_RUNNER,
    LABEL_TIMEOUT,
    EventAddress,
)
from stint.view import parse_time
from stint_runner.attend import Attendant
from stint_runner.clock import boot_time
from stint_runner.deadlines import Deadline, Noted
from stint_runner.engine import ContainerInfo
from stint_runner.lease import server_margin
from stint_runner.leased import Leased
from stint_runner.parts import Parts
from stint_runner.queued import QueuedJob
from stint_runner.removal import cleared
from stint_runner.waiting import patiently

log = structlog.get_logger()

ENGINE_PATIENCE: Final = 20.0
"""Seconds that a starting runner waits for its engine. Without it nothing is adopted."""
EPSILON: Final = 0.001
"""Seconds that are left of a time-out which is over."""


class _NoDelivery(NamedTuple):
    """Stands for a delivery that is another's by now, where the queue waits all the same."""

    ack_subject: str
    origin: str
    subject: str = ""
    sequence: int = 0

    async def renew(self) -> None:
        raise LeaseLostError

    async def ack(self) -> None:
        raise LeaseLostError

    async def give_back(self, delay: float = 0) -> None:
        del delay
        raise LeaseLostError


class Adopted(NamedTuple):
    """A job to go on with; see `Attendant.see_through`."""

    leased: Leased
    queued: QueuedJob


class Adoption:
    """Looks through what an earlier process of this runner left. `run` once, before anything else is done."""

    def __init__(self, parts: Parts, attendant: Attendant) -> None:
        self._parts = parts
        self._attendant = attendant

    async def run(self) -> Sequence[Adopted]:
        """The jobs to go on with. All others are stopped here, or left to whoever receives them."""
        containers = await self._containers()
        noted = {found.deadline.job_id: found for found in self._parts.deadlines.all()}
        adopted = []
        for job_id in containers.keys() | noted.keys():
            with structlog.contextvars.bound_contextvars(job=job_id):
                if found := await self._look_at(job_id, containers.get(job_id, ()), noted.get(job_id)):
                    adopted.append(found)
        return adopted

    async def _containers(self) -> Mapping[str, Sequence[ContainerInfo]]:
        """This runner's containers by job."""
        engine, labels = self._parts.engine, {LABEL_RUNNER: self._parts.runner}
        try:
            found = await patiently(lambda: engine.find(labels), on=EngineError, within=ENGINE_PATIENCE)
        except EngineError as error:
            log.error("nothing adopted: the engine does not answer", error=error.sentence)  # noqa: TRY400 - a sentence says it
            found = ()
        by_job: defaultdict[str, list[ContainerInfo]] = defaultdict(list)
        for container in found:
            by_job[container.labels.get(LABEL_JOB, "")].append(container)
        return by_job

    async def _look_at(self, job_id: str, containers: Sequence[ContainerInfo], noted: Noted | None) -> Adopted | None:
        job = await patiently(lambda: self._parts.log.load(job_id))
        if job is None:
            return None  # of another Stint on this engine
        if job.state is State.QUEUED and noted:
            await self._hand_back(job, noted.deadline)
        if job.state not in ACTIVE or job.runner != self._parts.runner:
            await self._clear(job)
            return None
        return await self._adopt(job, containers, noted)

    async def _hand_back(self, job: Job, deadline: Deadline) -> None:
        """It had been received and not claimed: nobody else need wait for its lease to end."""
        delivery = await self._reclaim(job, deadline.ack_subject, deadline.origin)
        if delivery:
            await patiently(delivery.give_back)

    async def _adopt(self, job: Job, containers: Sequence[ContainerInfo], noted: Noted | None) -> Adopted | None:
        container = next((container for container in containers if container.started), None)
        labels = container.labels if container else {}
        ack = noted.deadline.ack_subject if noted else labels.get(LABEL_ACK, "")
        origin = noted.deadline.origin if noted else labels.get(LABEL_ORIGIN, "")
        asked = boot_time()
        late = noted is not None and noted.due - server_margin(noted.deadline.seconds) < asked
        delivery = None if late else await self._reclaim(job, ack, origin)
        if container is None or (delivery is None and not self._parts.holds(job)):
            await self._let_go(job, delivery)
            return None
        leased = await self._leased(job, delivery or _NoDelivery(ack, origin), asked)
        leased.lease.lost = delivery is None
        queued = self._attendant.queued(leased)
        timeout = _left(job, labels.get(LABEL_TIMEOUT, ""))
        queued.adopt(job, container.container_id, masked=LABEL_MASKED in labels, timeout=timeout)
        log.info("job adopted", lease="lost" if leased.lease.lost else "renewed")
        return Adopted(leased, queued)

    async def _leased(self, job: Job, delivery: Delivery, asked: float) -> Leased:
        lease = await self._attendant.lease(job.token, delivery, asked)
        leased = Leased(self._parts.log, EventAddress("submitted", job.token, job.job_id), lease)
        leased.watch.see(job)
        return leased

    async def _reclaim(self, job: Job, ack: str, origin: str) -> Delivery | None:
        if not ack or not origin:
            return None
        return await patiently(lambda: self._parts.queues.reclaim(job.token, ack, origin))

    async def _let_go(self, job: Job, delivery: Delivery | None) -> None:
        """Too late, or nothing to go on with: clear away what there is, and let the job come again to be ended."""
        log.warning("job not adopted", lease="renewed" if delivery else "lost")
        await self._clear(job)
        if delivery:
            await patiently(delivery.give_back)

    async def _clear(self, job: Job) -> None:
        if await cleared(self._parts.engine, job.job_id):
            self._parts.deadlines.drop(job.job_id)


def _left(job: Job, timeout: str) -> float:
    """Seconds that are left of a time-out, counted from when the container was there; 0 for no limit."""
    seconds = float(timeout or 0)
    if not seconds:
        return 0
    elapsed = datetime.now(UTC) - parse_time(job.time_of(Launched.kind, Started.kind))
    return max(EPSILON, seconds - elapsed.total_seconds())
