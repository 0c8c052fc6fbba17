"""Recording what operators do to queues and runners, before it is done."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from stint.core.operations import DrainRequested, Paused, Resumed
from stint.core.view import rfc3339
from stint.jetstream import JetStreamOperations
from stint_api.auth import Identity, Signature


class _Stamp(Signature):
    event_id: str
    at: str


@dataclass(frozen=True, slots=True)
class Recorder:
    """Stores an event of each operation. Nothing is done that is not recorded, so it comes first.

    Each method raises BrokerUnavailableError if it is not known whether the event is stored.

    Attributes:
        now: aware, UTC.
        new_operation_id: source of ids in the form of a job's.
        new_event_id: source of ids.
    """

    operations: JetStreamOperations
    now: Callable[[], datetime]
    new_operation_id: Callable[[], str]
    new_event_id: Callable[[], str]

    async def paused(self, identity: Identity, token: str, reason: str) -> None:
        """Record that the caller pauses a queue."""
        await self.operations.record(Paused(**self._stamp(identity), reason=reason), self.new_operation_id(), token)

    async def resumed(self, identity: Identity, token: str) -> None:
        """Record that the caller resumes a queue."""
        await self.operations.record(Resumed(**self._stamp(identity)), self.new_operation_id(), token)

    async def drain_requested(self, identity: Identity, runner: str) -> None:
        """Record that the caller asks a runner to drain."""
        await self.operations.record(DrainRequested(**self._stamp(identity), runner=runner), self.new_operation_id())

    def _stamp(self, identity: Identity) -> _Stamp:
        return {"event_id": self.new_event_id(), "at": rfc3339(self.now()), **identity.signature}
