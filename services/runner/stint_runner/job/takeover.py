"""A job that was started before it came here: its runner was lost, or this is that runner after a restart."""

import asyncio
from typing import Final

import structlog

from stint.core.errors import EngineError
from stint.core.events import Ended, Held, Launched, Started
from stint.core.job import Job
from stint.ports import Delivery
from stint_runner.engine.removal import cleared, remove_containers
from stint_runner.job.verdict import Verdict, never_ran
from stint_runner.lease.lease import LeaseTimes
from stint_runner.retry import append_events, retry
from stint_runner.runner import Runner

log = structlog.get_logger()

LOST: Final = "The runner that had the job was lost."
NO_CONTAINER: Final = "The runner stopped before the job had a container."
LONGEST_LEASE: Final = 3600.0  # seconds of a holder's lease that are believed. A queue's runners can write any number


async def take_over(runner: Runner, job: Job, delivery: Delivery, *, overtaken: bool = False) -> Verdict:
    """End a lost job, or hold its queue; it is never run here. `overtaken`: it was started after this delivery."""
    if job.runner == runner.id:
        return await take_over_own(runner, job)
    started = job.fact(Started)
    lease = min(started.lease, LONGEST_LEASE) if started else 0.0
    holder = LeaseTimes(lease=lease, takeover=runner.settings.takeover)
    if overtaken or not delivery.after_expiry:
        # The consumer that its holder has it from is gone, and no lease has run out at this one, or it is the other way
        # round. If the holder lives, its renewals keep the job away from others from now on. If not, it comes again.
        log.info("job of another runner was delivered by another consumer, left to it for a lease", runner=job.runner)
        return Verdict.RETURN_LATER
    if runner.holds(job):
        if not job.held:
            held = runner.fact(Held, runner=job.runner)
            await append_events(runner.log, job.token, job.job_id, held, after=job.sequence)
            log.warning("job lost, its queue waits for a release", runner=job.runner)
        return Verdict.RETURN_LATER
    await append_events(runner.log, job.token, job.job_id, _lost(runner))
    log.warning("job lost", runner=job.runner)
    # Its runner may not know yet, and still have a container: the queue continues when that must be dead. Its lease may
    # be longer than those of this consumer, which has noticed its end.
    over = delivery.lease - holder.margin
    await asyncio.sleep(max(runner.settings.takeover, holder.dead - over, holder.told))
    await cleared(runner.engine, job.job_id)
    return Verdict.ACK


async def take_over_own(runner: Runner, job: Job) -> Verdict:
    """End a job that an earlier process of this runner started and left without a container that could be continued."""
    # For as long as it takes: while the engine does not answer, nobody knows that the job does not run.
    leftovers = await retry(lambda: remove_containers(runner.engine, job.job_id), on=EngineError)
    runner.deadlines.drop(job.job_id)
    launched = leftovers or Launched.kind in job.facts
    ended = _lost(runner) if launched else never_ran(runner, "failed", "internal", NO_CONTAINER)
    await append_events(runner.log, job.token, job.job_id, ended)
    log.warning("job of an earlier process ended", reason=ended.reason)
    if not leftovers:
        # It may have one on an engine that this runner, or another of its name, has used before.
        await asyncio.sleep(runner.settings.takeover)
    return Verdict.ACK


def _lost(runner: Runner) -> Ended:
    return runner.fact(Ended, status="unknown", reason="lost", error=LOST)
