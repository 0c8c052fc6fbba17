"""Pausing queues and resuming them."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
import structlog

from stint.core.audit.operations import Paused, Resumed
from stint.core.job import ACTIVE
from stint.core.names.ids import queue_token
from stint.core.pause import Pause
from stint.core.submission.jsontext import read_object
from stint.core.submission.payload import convert
from stint.core.view import rfc3339
from stint.jetstream import JetStreamOperations
from stint.ports import EventLog, Pauses
from stint.vault.actions import PAUSE, RESUME
from stint_api.auth import Authenticator, Identity
from stint_api.errors import RefusalError

log = structlog.get_logger()

ATTEMPTS: Final = 20
"""Attempts to bar a job to which others append meanwhile. A job has fewer events than that."""


class PauseRequest(msgspec.Struct, frozen=True):
    """What a request to pause a queue says."""

    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""


def parse_reason(body: bytes) -> str:
    """The reason in a request's body, "" without a body. Raises UndecodableError for anything but a short text."""
    if not body.strip():
        return ""
    return convert(read_object(body, {"reason"}, scanned=True), PauseRequest).reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Pausing:
    """Pauses queues and resumes them. Nothing is done that is not recorded, so that comes first.

    Both are safe to repeat. They raise RefusalError if the caller may not do this, and BrokerUnavailableError if it is
    not known whether it is done.
    """

    log: EventLog
    pauses: Pauses
    auth: Authenticator
    operations: JetStreamOperations
    now: Callable[[], datetime]
    new_operation_id: Callable[[], str]

    async def pause(self, identity: Identity, qname: str, reason: str) -> None:
        """Let a queue start no job any more. On return none can start that had not been claimed before."""
        await self.auth.require(identity, PAUSE, qname)
        token = queue_token(qname)
        pause = Pause(
            who=identity.name,
            at=rfc3339(self.now()),
            reason=reason,
            entity=identity.entity,
            accessor=identity.accessor,
        )
        paused = Paused(**identity.stamp(self.now()), reason=reason)
        await self.operations.record(paused, self.new_operation_id(), token)
        await self.pauses.put(token, pause)
        await self._bar_next(token)
        log.info("queue paused", queue=token, who=identity.name)

    async def resume(self, identity: Identity, qname: str) -> None:
        """Let a queue continue."""
        await self.auth.require(identity, RESUME, qname)
        token = queue_token(qname)
        resumed = Resumed(**identity.stamp(self.now()))
        await self.operations.record(resumed, self.new_operation_id(), token)
        await self.pauses.remove(token)
        log.info("queue resumed", queue=token, who=identity.name)

    async def _bar_next(self, token: str) -> None:
        """Bar the job that a runner may be about to claim: the first one in the work queue that is not over."""
        async for job_id in self.pauses.waiting(token):
            for _ in range(ATTEMPTS):
                job = await self.log.load(job_id, at_least=sys.maxsize)  # from the stream's leader
                if job is None or job.token != token or job.terminal:
                    break
                if job.state in ACTIVE or await self.log.bar(token, job_id, after=job.sequence):
                    return
            else:
                sentence = "The queue's next job is changing too fast. Try again."
                raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, sentence)
