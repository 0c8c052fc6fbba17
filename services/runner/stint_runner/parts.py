"""What a runner is made of. Its composition root builds one; everything else is handed it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from stint.eventlog import EventLog, OutputLog, PayloadStore, WorkQueues
from stint.events import Event
from stint.limits import LimitPolicy
from stint_runner.engine import Engine
from stint_runner.opening import Opener
from stint_runner.output import OUTPUT_LIMIT

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A runner's ports, and the settings that its jobs feel.

    Attributes:
        runner: the runner's id.
        takeover: T, see `stint_runner.lease`.
        kill_grace: seconds between SIGTERM and SIGKILL when a user kills a job.
        limits: what jobs get and may ask for, their network too.
        output_limit: bytes of output kept of a job, 0 for no limit.
        images_allow: patterns of images that may run.
        vault_addr: the Vault that containers are told of.
        vault_cacert: its CA bundle on the engine's host, "" for none.
        compat: behave as GoStint does.
        now: the wall clock, for what events claim.
    """

    log: EventLog
    payloads: PayloadStore
    output: OutputLog
    queues: WorkQueues
    engine: Engine
    opener: Opener
    runner: str
    takeover: float = 15.0
    kill_grace: float = 15.0
    limits: LimitPolicy = field(default_factory=LimitPolicy)
    output_limit: int = OUTPUT_LIMIT
    images_allow: str = "*"
    vault_addr: str = ""
    vault_cacert: str = ""
    compat: bool = False
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def fact(self, shape: type[E], **fields: Any) -> E:
        """A fact that this runner is about to write."""
        return shape(event_id=secrets.token_hex(16), at=self.now().isoformat(), by=self.runner, **fields)
