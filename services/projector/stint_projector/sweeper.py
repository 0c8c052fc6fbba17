"""Ends jobs that no queue and no runner has any more."""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import structlog

from stint.errors import BrokerUnavailableError
from stint.eventlog import EventLog, Outcome
from stint.events import Ended
from stint.history import History, Place
from stint.job import State
from stint_projector.janitor import interval

log = structlog.get_logger()

LOOKS: Final = 6
"""Looks within the time that a job must be missing for."""
SHARE: Final = 20
"""A look may take this part of the time at most: with very many jobs there are fewer looks."""
STALE: Final = 3
"""Pauses after which the last look says nothing any more: what it saw missing may have been there meanwhile."""
MISSING: Final = "No queue and no runner had the job any more."
"""What such a job shows as its error."""


class Sweeper:
    """Ends, as `unknown`, each job that has been missing from the work queues for long enough, seen by itself.

    A runner appends the end before its ack, so that a job which goes on is in a work queue. It is missing if its
    message was removed there, or acknowledged by a runner that had lost it. Any number may run side by side.

    Attributes:
        pause: seconds until the next look.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        history: History,
        missing_for: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_event_id: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        """`missing_for` must be longer than any runner may take to end a job whose lease it has lost."""
        self._log = log
        self._history = history
        self._missing_for = missing_for.total_seconds()
        self._monotonic = monotonic
        self._now = now
        self._new_event_id = new_event_id
        self.pause = self._least_pause = interval(missing_for, LOOKS).total_seconds()
        self._since: dict[Place, float] = {}
        self._looked_at = 0.0

    async def run(self) -> None:
        """Work until cancelled, through any outage."""
        while True:
            try:
                await self.sweep()
            except BrokerUnavailableError as error:
                log.debug("jobs in no queue were not looked for", error=error.sentence)
            except Exception:  # a fault here can never stop the view
                log.exception("jobs in no queue were not looked for")
            await asyncio.sleep(self.pause * random.uniform(1, 1.2))  # noqa: S311 - jitter

    async def sweep(self) -> None:
        """Look once, and end what has been missing for long enough."""
        for place in await self._overdue():
            self._since[place] = self._monotonic()  # whatever happens now, the others come before it
            try:
                await self._end(place)
            except BrokerUnavailableError:
                raise
            except Exception:  # one job can never keep the others in sight
                log.exception("a job in no queue was not ended", job=place.job_id)

    async def _overdue(self) -> list[Place]:
        begin = self._monotonic()
        missing = await self._history.missing()
        now = self._monotonic()
        stale = now - self._looked_at > STALE * self.pause
        self.pause = max(self._least_pause, SHARE * (now - begin))
        if missing is None:
            return []
        known = {} if stale else self._since
        self._since = {place: known.get(place, now) for place in missing}
        self._looked_at = now
        return [place for place, since in self._since.items() if now - since >= self._missing_for]

    async def _end(self, place: Place) -> None:
        job = await self._log.load(place.job_id)
        if job is None or job.token != place.token or job.terminal or await self._history.is_in_work(place):
            return
        event = Ended(
            event_id=self._new_event_id(),
            at=self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            by="projector",
            status=State.UNKNOWN,
            reason="lost",
            error=MISSING,
        )
        # Before the start all depends on nobody having started it; after it an end holds whatever happens meanwhile.
        after = job.sequence if job.state is State.QUEUED else None
        if await self._log.append(job.token, job.job_id, event, after=after) is Outcome.WON:
            log.warning("job lost", job=job.job_id, status=job.state, runner=job.runner)
