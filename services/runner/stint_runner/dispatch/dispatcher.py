"""Processes a runner's deliveries, any number at a time."""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

import structlog

from stint.core.errors import InvalidJobIdError, InvalidTokenError, LeaseLostError, UnfitError
from stint.core.events import Rejected
from stint.core.names.subjects import EventAddress, parse_event_subject, unreadable_submission
from stint.ports import Delivery
from stint_runner.job.run import JobRun
from stint_runner.job.verdict import Verdict, settle
from stint_runner.lease.lease import Lease
from stint_runner.lease.leased_job import LeasedJob
from stint_runner.retry import retry
from stint_runner.runner import Runner

log = structlog.get_logger()


class Dispatcher:
    """Processes deliveries."""

    def __init__(self, runner: Runner) -> None:
        self.jobs: dict[EventAddress, LeasedJob] = {}  # that it processes now
        self._runner = runner
        self._draining = False
        self._paused: set[str] = set()  # queues whose next job was given back here because of a pause
        self._cleaning: set[asyncio.Task[object]] = set()
        self._logging_out: set[asyncio.Task[object]] = set()

    async def process(self, delivery: Delivery, *, pulled_at: float) -> None:
        """Process a delivery to its end: run the job, or record why it cannot run.

        `pulled_at` is the `boot_time` of the pull. Raises UnfitError if this runner cannot run jobs: it is given back.
        """
        lease = Lease(delivery, takeover=self._runner.settings.takeover, confirmed=pulled_at)
        try:
            address = parse_event_subject(delivery.subject)
        except (InvalidTokenError, InvalidJobIdError):
            await self._reject(lease)
            return
        with structlog.contextvars.bound_contextvars(job=address.job_id):
            known = self.jobs.get(address)
            if known is None or not await known.take_delivery(delivery, pulled_at):
                leased = LeasedJob(self._runner.log, self._runner.queues, address, lease)
                await self.run(JobRun(self._runner, leased))

    async def run(self, run: JobRun) -> None:
        """Run a job under its lease, settle its delivery, and clean up in the background. Raises as `process` does."""
        leased = run.leased
        self.jobs[leased.address] = leased
        if self._draining:  # it was pulled when the drain began
            leased.unwanted.set()
        try:
            async with leased.kept():
                try:
                    verdict = await run.verdict()
                except UnfitError:
                    await leased.lease.give_back()
                    raise
                except LeaseLostError:
                    raise
                except Exception as error:  # noqa: BLE001 - one job can never take a runner down; it is logged there
                    verdict = await run.give_up(error)
                await settle(verdict, leased.lease)
            if verdict is Verdict.PAUSED:
                await self._hint_unless_paused(leased.address.token)
        except LeaseLostError as error:
            log.warning("delivery left to others", error=error.sentence)
        finally:
            del self.jobs[leased.address]
            if run.needs_clean_up:
                self.clean_up(self._clean_up(run))

    async def _hint_unless_paused(self, token: str) -> None:
        """Repeat the hint of the pause's end: one that came before the job was given back had no effect."""
        if await self._runner.is_paused(token):
            self._paused.add(token)
        else:
            await retry(lambda: self._runner.queues.hint(token, returned=True))

    async def resumed(self) -> Collection[str]:
        """The queues whose next job was given back here because of a pause that has ended, each once.

        The hint of the pause's end reaches nobody while all runners are full.
        """
        found = [token for token in [*self._paused] if not await self._runner.is_paused(token)]
        self._paused.difference_update(found)
        return found

    def drain(self) -> None:
        """Give back the jobs that have not been claimed yet, also those that are on their way."""
        self._draining = True
        for leased in self.jobs.values():
            leased.unwanted.set()

    def kill_all(self) -> None:
        """Kill all jobs that run here."""
        for leased in self.jobs.values():
            leased.killed.set()

    def clean_up(self, work: Coroutine[Any, Any, object]) -> None:
        """Do this in the background: no queue and no lease waits for it."""
        _spawn(self._cleaning, work)

    async def _clean_up(self, run: JobRun) -> None:
        await run.clean_up()
        _spawn(self._logging_out, run.log_out())  # a Vault that is unavailable holds up no job that does not need it

    async def clean_ups_below(self, number: int) -> None:
        """Wait until fewer than `number` clean-ups are running: an engine that hangs gets no more of them."""
        while len(self._cleaning) >= number:
            await asyncio.wait(self._cleaning, return_when=asyncio.FIRST_COMPLETED)

    async def cleaned_up(self) -> None:
        """Wait until nothing of the jobs that ended here is left to do."""
        while doing := self._cleaning | self._logging_out:
            await asyncio.wait(doing)

    async def _reject(self, lease: Lease) -> None:
        """Record a submission whose subject names no queue or job, outside the view, and remove it from WORK."""
        event = self._runner.fact(Rejected, error="The subject names no queue or no job.")
        sequence = lease.delivery.sequence
        place = unreadable_submission(sequence)
        await retry(lambda: self._runner.log.append(place.token, place.job_id, event))
        await retry(lease.ack)
        log.warning("submission rejected", sequence=sequence, error=event.error)


def _spawn(tasks: set[asyncio.Task[object]], work: Coroutine[Any, Any, object]) -> None:
    """Do this in the background, as one of these tasks until it is done."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
