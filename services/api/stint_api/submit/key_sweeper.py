"""Destroys the keys of payloads that are no longer kept."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from stint.core.errors import VaultError
from stint.ports import EventLog, PayloadStore
from stint.process.waiting import both, for_each, repeat
from stint.vault.connections import TooLongAnswerError
from stint.vault.erasure import PayloadKeys, day_and_job
from stint.vault.policies import KEYS, PUBLISHERS

log = structlog.get_logger()

INTERVAL: Final = 60.0
"""Seconds between two sweeps: so long may a key outlive its payload."""
CONCURRENCY: Final = 8
"""Keys that are looked at at a time."""
LONGEST: Final = timedelta(days=33)
"""By which a key without a job may be older, or younger, than today: the secret ids of the role that
`stint vault-setup` makes are good for 32 days at most, and clocks differ."""
LOGGED: Final = 160
"""Characters of a key's name that are logged: more than any has that a payload can give."""
TOO_MANY: Final = "too many keys of payloads in a folder: none is destroyed until docs/upkeep.md is followed"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySweeper:
    """Lets a key live as long as its payload, however long that is kept. Any number may run concurrently.

    A key is destroyed if its job is over and has no payload. A key without a job stays for `LONGEST`: it may belong to
    a submission that is under way, or to another installation that uses the same Vault.
    """

    keys: PayloadKeys
    payloads: PayloadStore
    log: EventLog
    now: Callable[[], datetime]

    async def run(self) -> None:
        """Sweep until cancelled, through any outage. However many keys publishers make, the API's do not wait."""
        await both(
            repeat(self.sweep, lambda: INTERVAL, failed="keys of payloads not swept"),
            repeat(self.sweep_publishers, lambda: INTERVAL, failed="keys of publishers' payloads not swept"),
        )

    async def sweep(self) -> None:
        """Look once at all keys that APIs have made."""
        await self._sweep("", await self._stored())

    async def sweep_publishers(self) -> None:
        """Look once at all keys of publishers. What fails with those of one does not concern the others."""
        stored = await self._stored()
        for folder in await self._names(PUBLISHERS):
            try:
                await self._sweep(folder, stored)
            except VaultError as error:
                log.warning("keys of a publisher's payloads not swept", folder=folder, error=error.sentence)

    async def _stored(self) -> set[str]:
        return {place.job_id for place in await self.payloads.places()}

    async def _sweep(self, folder: str, stored: set[str]) -> None:
        async def look_at(name: str) -> None:
            if await self._is_due(name, stored):
                await self.keys.destroy(name)
                log.debug("key of a payload destroyed", name=name[:LOGGED])

        await for_each(await self._names(folder), look_at, at_once=CONCURRENCY)

    async def _names(self, folder: str) -> Collection[str]:
        try:
            return await self.keys.names(folder)
        except TooLongAnswerError:
            log.error(TOO_MANY, folder=f"{KEYS}/{folder}")  # noqa: TRY400 - a sentence says it
            return ()

    async def _is_due(self, name: str, stored: set[str]) -> bool:
        """Whether nobody needs the key any more. No payload can give a name of another shape; publishers make such."""
        if (parts := day_and_job(name)) is None:
            return name.startswith(PUBLISHERS) and not name.endswith("/")
        day, job_id = parts
        if job_id in stored:
            return False
        job = await self.log.load(job_id)
        if job is None:
            return abs(self.now().date() - day) > LONGEST
        return job.terminal
