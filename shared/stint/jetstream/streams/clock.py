"""The clock of NATS, from which all events and output have their times."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from stint.core.errors import StintError
from stint.core.names.streams import EVENTS
from stint.core.view import parse_time
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.process.waiting import repeat

log = structlog.get_logger()

READ_EVERY: Final = 60.0  # seconds between two readings. In between, this machine's monotonic clock counts
FIRST_PAUSE: Final = 0.2  # seconds between two attempts before the first reading: services wait for that
SKEW: Final = timedelta(seconds=2)  # between two clocks that nobody notices


class ServerClock:
    """The time by the clock of the server that leads EVENTS. Until it was read (`is_known`), it is this machine's.

    Whoever asks how old something in NATS is asks this clock: by its own, a machine whose clock is ahead would remove
    what is still kept.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._events = Stream(broker, EVENTS)
        self._booted = datetime.now(UTC) - _running()
        self._warned = timedelta()
        self.is_known = False

    def now(self) -> datetime:
        """The time there, in UTC. It may be late by the time that a reading took, and is never ahead."""
        return self._booted + _running()

    async def known(self) -> None:
        """Return once it was read, and there is a connection, however long that takes."""
        await self._broker.wait_connected()
        while not self.is_known:
            try:
                await self.read()
            except StintError as error:
                log.debug("the clock of NATS cannot be read, retrying", error=error.sentence)
                await asyncio.sleep(FIRST_PAUSE)
                await self._broker.wait_connected()

    async def read(self) -> None:
        """Read it, and warn if this machine's clock differs. After a BrokerUnavailableError the last reading counts."""
        asked = datetime.now(UTC)
        there = parse_time((await self._events.info())["ts"])
        self._booted = there - _running()
        self.is_known = True
        self._tell(min(asked - there, datetime.now(UTC) - there, key=abs))

    def _tell(self, ahead: timedelta) -> None:
        ahead = ahead if abs(ahead) > SKEW else timedelta()
        if abs(ahead - self._warned) <= SKEW:
            return
        self._warned = ahead
        if ahead:
            log.warning(
                "this machine's clock differs from that of NATS, which counts", ahead=round(ahead.total_seconds(), 1)
            )
        else:
            log.info("this machine's clock agrees with that of NATS again")

    async def run(self) -> None:
        await self.known()
        await repeat(self.read, lambda: READ_EVERY, failed="the clock of NATS cannot be read, retrying")


def _running() -> timedelta:
    """How long this machine runs, by its monotonic clock, which nobody sets."""
    return timedelta(seconds=time.monotonic())
