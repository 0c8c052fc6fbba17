"""What a runner is made of. Its composition root builds one; everything else is handed it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from stint.core.events import Event, Submitted
from stint.core.job import Job
from stint.core.limits import HOLD, ON_LOST, LimitPolicy
from stint.core.subjects import queue_name
from stint.ports import EventLog, OutputLog, PayloadStore, WorkQueues
from stint_runner.engine.port import Engine
from stint_runner.inputs.memory import MemoryBudget
from stint_runner.inputs.opening import Opener
from stint_runner.output.pump import OUTPUT_LIMIT
from stint_runner.watchdog.deadlines import Deadlines

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A runner's ports, and the settings that its jobs feel.

    Attributes:
        deadlines: until when its jobs may run, for the watchdog.
        runner: the runner's id.
        takeover: T, see `stint_runner.lease.lease`.
        kill_grace: seconds between SIGTERM and SIGKILL when a user kills a job.
        limits: what jobs get and may ask for, their network too.
        output_limit: bytes of output kept of a job, 0 for no limit.
        images_allow: patterns of images that may run.
        hold_queues: patterns of queues that wait when a job's runner is lost.
        vault_addr: the Vault that containers are told of.
        vault_cacert: its CA bundle on the engine's host, "" for none.
        compat: behave as GoStint does.
        memory: what payloads and content of all jobs may take while their containers are made.
        now: the wall clock, for what events claim.
    """

    log: EventLog
    payloads: PayloadStore
    output: OutputLog
    queues: WorkQueues
    engine: Engine
    opener: Opener
    deadlines: Deadlines
    runner: str
    takeover: float = 15.0
    kill_grace: float = 15.0
    limits: LimitPolicy = field(default_factory=LimitPolicy)
    output_limit: int = OUTPUT_LIMIT
    images_allow: str = "*"
    hold_queues: str = ""
    vault_addr: str = ""
    vault_cacert: str = ""
    compat: bool = False
    memory: MemoryBudget = field(default_factory=MemoryBudget)
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def holds(self, job: Job) -> bool:
        """Whether the job's queue waits when its runner is lost: as the job says, else as its queue's name says."""
        submitted = job.fact(Submitted)
        if submitted and submitted.on_lost in ON_LOST:
            return submitted.on_lost == HOLD
        name = queue_name(job.token)
        return any(fnmatchcase(name, pattern.strip().lower()) for pattern in self.hold_queues.split(",") if pattern)

    def fact(self, shape: type[E], **fields: Any) -> E:
        """A fact that this runner is about to write."""
        return shape(event_id=secrets.token_hex(16), at=self.now().isoformat(), by=self.runner, **fields)
