"""Submitting a job: once, however often a request comes with the same caller and `Idempotency-Key`."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

from stint.core.errors import BrokerUnavailableError, StintError, TooLargeError, UndecodableError
from stint.core.events import Submitted
from stint.core.job import Job, State
from stint.core.view import expiry
from stint.ports import EventLog, Outcome
from stint_api.auth import Identity
from stint_api.errors import RefusalError, UnknownOutcomeError, unknown_if_cancelled
from stint_api.submit.body import LONGEST_TOKEN, Submission
from stint_api.submit.sealing import CubbyholeError
from stint_api.submit.storing import Store

HEADER: Final = "Idempotency-Key"
STORING: Final = 10.0
"""Seconds, beyond the store's patience, for which a request waits for its twin, sent before, which may have read its
cubbyhole. In this time NATS elects a leader."""


def keyed_id(identity: Identity, key: str) -> str:
    """A job's id from its caller and key, in the place of a new one."""
    framed = f"{len(identity.caller)} {identity.caller} {key}".encode()
    return hashlib.sha256(framed).hexdigest()[:24]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """Accepts submissions. `broker_up` says whether NATS is connected, and is asked before anything is spent.

    With an idempotency key a request is known by its digest, which no other request has; without one that is "".
    """

    log: EventLog
    store: Store
    broker_up: Callable[[], bool]
    retention: timedelta
    now: Callable[[], datetime]
    new_job_id: Callable[[], str]

    async def submit(self, identity: Identity, submission: Submission, key: str | None = None) -> str:
        """Put a job into its queue; with an idempotency key, only if it is not there. Returns its id.

        Raises:
            RefusalError: the request lacks something, the cubbyhole cannot be read, or was read in vain, the key
                belongs to another request or to a job that is gone, or nobody can say yet whether the job was taken
                (503 with its `_id`).
            StintError: see `stint_api.errors`.
        """
        if not submission.envelope.wrap_secret_id:
            raise UndecodableError("AppRole SecretID's Wrapping Token must be present in the job request")
        if len(submission.envelope.wrap_secret_id) > LONGEST_TOKEN:
            raise TooLargeError("The wrap_secret_id is longer than a token of Vault.")
        if not self.broker_up():  # a cubbyhole token serves once: do not spend it on a job that cannot be stored
            raise BrokerUnavailableError
        job_id, digest = (self.new_job_id(), "") if key is None else (keyed_id(identity, key), submission.digest)
        if digest and await self._is_stored(job_id, digest):  # asked first: a repeat's cubbyhole token is spent
            return job_id
        with unknown_if_cancelled(job_id):
            await self._store(identity, submission, job_id, digest)
        return job_id

    async def _store(self, identity: Identity, submission: Submission, job_id: str, digest: str) -> None:
        try:
            submitted, outcome = await self.store.put(identity, submission, job_id, digest)
        except CubbyholeError as error:
            if digest and await self._twin_is_stored(job_id, digest):
                return
            cubbyholes, envelope = self.store.cubbyholes, submission.envelope
            if digest and cubbyholes.is_read(identity, envelope):  # by the twin, which takes longer than that
                raise UnknownOutcomeError(job_id) from None
            raise cubbyholes.why_spent(identity, envelope) or error from None
        if digest:
            await self._settle(job_id, digest, submitted)
        else:
            check_outcome(outcome, job_id)

    async def _is_stored(self, job_id: str, digest: str) -> bool:
        job = await self.log.current(job_id)
        if job is not None:
            self._check(job, digest)
        return job is not None

    def _check(self, job: Job, digest: str) -> None:
        """Raise RefusalError if the job is gone, which a repeat must not call queued, or if another request made it."""
        submitted = job.fact(Submitted)
        if submitted and not visible(job, self.retention, self.now()):
            fate = "was deleted" if job.state is State.DELETED else "is over, and no longer kept"
            sentence = f"The job of this {HEADER}, {job.job_id}, {fate}."
            raise RefusalError(HTTPStatus.GONE, sentence, _id=job.job_id)
        if submitted is None or submitted.request_digest != digest:
            sentence = f"The {HEADER} was used for another request."
            raise RefusalError(HTTPStatus.CONFLICT, sentence, _id=job.job_id)

    async def _twin_is_stored(self, job_id: str, digest: str) -> bool:
        """Whether the same request, sent twice at the same time, is taken while this one waits for it."""
        async with self.log.follow(job_id) as changed:
            try:
                async with asyncio.timeout(self.store.cubbyholes.patience + STORING):
                    while not await self._is_stored(job_id, digest):
                        await changed.wait()
                        changed.clear()
            except TimeoutError:
                return await self._is_stored(job_id, digest)
        return True

    async def _settle(self, job_id: str, digest: str, submitted: Submitted) -> None:
        """Check who won: events are unique per queue, and of two requests for two queues the first counts."""
        try:
            job = await self.log.load(job_id)
        except BrokerUnavailableError:
            raise UnknownOutcomeError(job_id) from None
        if job is None:
            raise StintError(f"Job {job_id} is not in the log.")
        first = job.fact(Submitted)
        if first is None or first.event_id != submitted.event_id:
            await self.store.discard(job, submitted)
        self._check(job, digest)


def check_outcome(outcome: Outcome, job_id: str) -> None:
    """Raise UnknownOutcomeError if nobody can say whether the append was won, and StintError if it was lost."""
    if outcome is Outcome.UNKNOWN:
        raise UnknownOutcomeError(job_id)
    if outcome is Outcome.LOST:
        raise StintError(f"Another writer was faster at job {job_id}.")


def visible(job: Job, retention: timedelta, now: datetime) -> bool:
    """Whether clients can see the job: it was not deleted, and is not over for longer than it is kept."""
    end = expiry(job, retention)
    return job.state is not State.DELETED and (end is None or end > now)
