"""Monitors the filling of WORK, whose leader receives submissions from the leader of EVENTS."""

import math
from collections.abc import Mapping
from typing import Any, Final

import structlog

from stint.core.subjects import EVENTS, WORK
from stint.jetstream.answers import check
from stint.jetstream.broker import Broker
from stint.process.waiting import again_and_again

log = structlog.get_logger()

SILENCE: Final = 5.0
"""Seconds without a message from EVENTS after which WORK may lag. There is a heartbeat every second."""
LOOK: Final = 3.0
"""Seconds between two checks."""
_NANOSECONDS: Final = 10**9


def silence(work: Mapping[str, Any]) -> float:
    """Seconds since WORK heard from EVENTS, by its STREAM.INFO. Infinite if its leader has heard nothing yet."""
    (source,) = work["sources"]
    active = int(source["active"])
    return active / _NANOSECONDS if active >= 0 else math.inf


class Sourcing:
    """Gives WORK a new leader if the current one receives nothing from EVENTS.

    After an election a leader retries the connection to EVENTS after 10 s, then 20 s, and so on to two minutes
    (`calculateRetryBackoff` in the server's `stream.go`). A new leader connects at once.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._silent = ""

    async def run(self) -> None:
        """Check regularly until cancelled, through any outage."""
        await again_and_again(self.look, lambda: LOOK, failed="check of the work queues' filling failed")

    async def look(self) -> None:
        """Ask the leader to step down if it was silent at the last two checks and EVENTS has a leader."""
        found = check(await self._broker.api(f"STREAM.INFO.{WORK}"))
        cluster = found.get("cluster") or {}
        silent = cluster.get("leader", "") if cluster.get("replicas") and silence(found) >= SILENCE else ""
        before, self._silent = self._silent, silent
        if silent and silent == before:
            check(await self._broker.api(f"STREAM.INFO.{EVENTS}"))  # only its leader answers
            check(await self._broker.api(f"STREAM.LEADER.STEPDOWN.{WORK}"))
            log.info("work was not filled, its leader was asked to step down", leader=silent)
            self._silent = ""
