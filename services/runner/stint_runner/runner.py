"""A runner's settings and ports. The composition root makes one, and passes it to everything else."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from stint.core.errors import BrokerRefusedError, UnfitError
from stint.core.events import Event, Submitted
from stint.core.job import Job
from stint.core.names.ids import queue_name
from stint.core.names.patterns import QueuePatterns
from stint.core.submission.limits import HOLD, ON_LOST
from stint.ports import EventLog, OutputLog, Pauses, PayloadStore, WorkQueues
from stint.process.settings import RunnerSettings
from stint_runner.engine.port import Engine
from stint_runner.engine.space import EngineSpace
from stint_runner.inputs.files import ImageLibrary
from stint_runner.inputs.memory import MemoryBudget
from stint_runner.inputs.opening import Opener
from stint_runner.phases import Phases
from stint_runner.retry import retry
from stint_runner.watchdog.deadlines import Deadlines

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A runner's settings and ports."""

    settings: RunnerSettings
    log: EventLog
    payloads: PayloadStore
    output: OutputLog
    queues: WorkQueues
    pauses: Pauses
    engine: Engine
    opener: Opener
    deadlines: Deadlines  # until when its jobs may run, for the watchdog
    memory: MemoryBudget  # for payloads and content of all jobs while their containers are prepared
    images: ImageLibrary  # the files of the engine's images
    phases: Phases  # what is done for its jobs now
    space: EngineSpace = field(default_factory=EngineSpace)  # whether the engine's disk has room
    now: Callable[[], datetime]  # the clock of NATS, from which the log has its times

    @property
    def id(self) -> str:
        """The runner's name."""
        return self.settings.runner_id

    def holds(self, job: Job) -> bool:
        """Whether the job's queue waits when its runner is lost: as the job says, else as its queue's name says."""
        submitted = job.fact(Submitted)
        if submitted and submitted.on_lost in ON_LOST:
            return submitted.on_lost == HOLD
        return QueuePatterns.parse(self.settings.hold_queues).match(queue_name(job.token))

    async def is_paused(self, token: str) -> bool:
        """Whether this queue must start no job. Raises UnfitError if NATS does not say: that is no fault of the job."""
        try:
            return await retry(lambda: self.pauses.find(token)) is not None
        except BrokerRefusedError as error:
            raise UnfitError(f"Nobody knows whether the queue is paused. {error.sentence}") from None

    def fact(self, shape: type[E], **fields: Any) -> E:
        """An event that this runner is about to append."""
        return shape(event_id=secrets.token_hex(16), at=self.now().isoformat(), by=self.id, **fields)
