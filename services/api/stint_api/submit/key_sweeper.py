"""Destroys the keys of payloads that are no longer kept."""

from dataclasses import dataclass
from typing import Final

import structlog

from stint.ports import EventLog, PayloadStore
from stint.process.waiting import for_each, repeat
from stint.vault.erasure import PayloadKeys

log = structlog.get_logger()

INTERVAL: Final = 60.0
"""Seconds between two sweeps: so long may a key outlive its payload."""
CONCURRENCY: Final = 8
"""Keys that are looked at at a time."""
JOB_ID: Final = 24
"""Characters of the job's id, with which a key's name begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySweeper:
    """Lets a key live as long as its payload, however long that is kept. Any number may run concurrently.

    A key is destroyed if its job is over and has no payload. A key without a job stays: it may belong to a submission
    that is under way, or to another installation that uses the same Vault.
    """

    keys: PayloadKeys
    payloads: PayloadStore
    log: EventLog

    async def run(self) -> None:
        """Sweep until cancelled, through any outage."""
        await repeat(self.sweep, lambda: INTERVAL, failed="keys of payloads not swept")

    async def sweep(self) -> None:
        """Look at all keys once."""
        names = await self.keys.names()
        stored = {place.job_id for place in await self.payloads.places()} if names else set()
        await for_each((name for name in names if name[:JOB_ID] not in stored), self._look_at, at_once=CONCURRENCY)

    async def _look_at(self, name: str) -> None:
        job = await self.log.load(name[:JOB_ID])
        if job is not None and job.terminal:
            await self.keys.destroy(name)
            log.debug("key of a payload destroyed", job=job.job_id)
