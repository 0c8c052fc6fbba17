"""The checks before a job is claimed. They spend nothing and change nothing."""

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Final

from stint.core.errors import BrokerUnavailableError, JobFailedError, PayloadMissingError, StintError, UnfitError
from stint.core.events import Submitted
from stint.core.job import Job
from stint.core.names.ids import queue_name
from stint.vault import Ticket
from stint_runner.engine.removal import cleared
from stint_runner.inputs.memory import Share
from stint_runner.inputs.opening import RejectedError
from stint_runner.inputs.payload import Opened
from stint_runner.retry import retry
from stint_runner.runner import Runner
from stint_runner.together import side_by_side

ENGINE_PATIENCE: Final = 5.0  # seconds for which the engine may be unavailable before the job is left to other runners
ENGINE_SILENCE: Final = 20.0  # seconds after which it is left to them if the engine hangs
OPENING: Final = 8
"""Bytes of memory for each byte of a payload while it is opened: 7 for its ways to and from Vault (measured), and one
for it as it was stored."""
CHUNK: Final = 512 * 1024  # bytes of a payload's chunk, in which its submitter may say that it is smaller
MAX_CHUNKS: Final = 128  # chunks of any payload
READS: Final = 10
"""Attempts to read a payload that is not there, in about 10 s: a replica of NATS whose server was frozen may lack what
was acknowledged for 2 s, as measured."""
LONGEST_LINE: Final = 32 * 1024 * 1024
"""Bytes of a request to Vault, in which a line of a payload must fit. Its lines are opened one after the other."""


class OvertakenError(StintError):
    """Another process's event came first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A job that can be claimed. If only its own token may open the payload, there is `sealed` instead of `opened`."""

    ticket: Ticket
    opened: Opened | None = field(repr=False)
    sealed: bytes = field(default=b"", repr=False)


async def examine(runner: Runner, job: Job, share: Share) -> Examined:
    """Open the ticket and the payload, and look at the wrapping token, which is not spent.

    Raises RejectedError if it is no submission, one of a payload that cannot be, or the ticket of another job;
    JobFailedError if it can never run; UnfitError if it cannot run here; OvertakenError if it is no longer queued. Of
    several the first in this order counts.
    """
    submitted = job.fact(Submitted)
    if submitted is None:
        raise RejectedError("What was submitted is not a submission.")
    runner.space.check()
    await share.take(_memory_for(submitted))
    ticket, sealed, engine_is_clear = await side_by_side(
        runner.opener.ticket(submitted.ticket, job),
        _sealed(runner, job, submitted, share),
        # No container may bear the job's label when it is claimed.
        _engine_is_clear(runner, job),
    )
    if not engine_is_clear:
        raise UnfitError("The container engine does not answer.")
    share.shrink(OPENING * len(sealed))  # the submission may have said that it is larger
    _, opened = await side_by_side(
        runner.opener.check_wrapping(ticket), runner.opener.payload(sealed, ticket, queue_name(job.token))
    )
    runner.space.take_turn()
    return Examined(ticket=ticket, opened=opened, sealed=b"" if opened else sealed)


async def _engine_is_clear(runner: Runner, job: Job) -> bool:
    try:
        async with asyncio.timeout(ENGINE_SILENCE):
            return await cleared(
                runner.engine, job.job_id, within=ENGINE_PATIENCE, check=lambda: _check_queued(runner, job)
            )
    except TimeoutError:
        return False


async def _check_queued(runner: Runner, job: Job) -> None:
    """Raises OvertakenError if the job has gone on: a replica that lags may have said that it is queued.

    Then its container may be that of a runner that has started it.
    """
    current = await retry(lambda: runner.log.load(job.job_id, at_least=sys.maxsize))
    if current is None or current.sequence > job.sequence:
        raise OvertakenError


def _memory_for(submitted: Submitted) -> int:
    """Bytes to open a payload: no more than any needs, because all jobs behind it wait until they are free."""
    # The submission is not believed to be smaller than its chunks allow.
    size = max(submitted.payload_bytes, submitted.payload_chunks * CHUNK, 0)
    if size > MAX_CHUNKS * CHUNK:
        raise RejectedError(f"A payload has at most {MAX_CHUNKS} chunks, and {MAX_CHUNKS * CHUNK} bytes.")
    return OPENING * min(size, LONGEST_LINE)


async def _sealed(runner: Runner, job: Job, submitted: Submitted, share: Share) -> bytes:
    """The payload as it was sealed. One that is not stored yet is waited for, and keeps no memory meanwhile."""
    chunks, attempt = submitted.payload_chunks, submitted.payload_try

    async def get() -> bytes:
        if not share.size:
            await share.take(_memory_for(submitted))
        try:
            return await retry(
                lambda: runner.payloads.get(job.token, job.job_id, chunks, attempt=attempt), on=BrokerUnavailableError
            )
        except PayloadMissingError:
            share.shrink(0)
            raise

    try:
        stored = await retry(get, on=PayloadMissingError if runner.payloads.may_lag else (), attempts=READS)
    except StintError as error:
        raise JobFailedError(error.sentence, reason="payload") from None
    return await runner.opener.sealed(stored)
