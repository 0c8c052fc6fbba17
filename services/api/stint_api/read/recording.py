"""Recording what operators do to queues and runners, before it is done."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from stint.core.audit.operations import DrainRequested, Paused, Resumed
from stint.jetstream import JetStreamOperations
from stint_api.auth import Identity


@dataclass(frozen=True, slots=True)
class Recorder:
    """Stores an event of each operation. Nothing is done that is not recorded, so it comes first.

    Each method raises BrokerUnavailableError if it is not known whether the event is stored.

    Attributes:
        new_operation_id: source of ids in the form of a job's.
    """

    operations: JetStreamOperations
    now: Callable[[], datetime]
    new_operation_id: Callable[[], str]

    async def paused(self, identity: Identity, token: str, reason: str) -> None:
        """Record that the caller pauses a queue."""
        paused = Paused(**identity.stamp(self.now()), reason=reason)
        await self.operations.record(paused, self.new_operation_id(), token)

    async def resumed(self, identity: Identity, token: str) -> None:
        """Record that the caller resumes a queue."""
        await self.operations.record(Resumed(**identity.stamp(self.now())), self.new_operation_id(), token)

    async def drain_requested(self, identity: Identity, runner: str) -> None:
        """Record that the caller asks a runner to drain."""
        drain = DrainRequested(**identity.stamp(self.now()), runner=runner)
        await self.operations.record(drain, self.new_operation_id())
