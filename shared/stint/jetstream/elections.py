"""Writes during the loss of a leader: the same message is repeated until it is answered or the time is over."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from stint.core.errors import BrokerUnavailableError
from stint.jetstream.broker import RECONNECT, Broker
from stint.jetstream.driver import NoAnswerError

ELECTION: Final = 10.0
"""Seconds for which a write is repeated. Servers elect 4 to 9 s after the last message of a leader; 3.8 measured."""
ANSWER: Final = 2.5
"""Seconds for each attempt. The first may have gone to the lost leader; the next ones must still fit."""
PAUSE: Final = 0.1
"""Seconds between attempts: without a leader each is refused at once."""

T = TypeVar("T")


async def across_elections(broker: Broker, write: Callable[[], Awaitable[T]]) -> T:
    """Repeat a write that is refused because there is no leader, or not answered. It must be safe to repeat.

    If the connection is lost, this waits only as long as another server needs to take it over, so that the caller soon
    learns of the loss of a single server.

    Raises:
        NoAnswerError: one of the attempts may have been accepted.
        BrokerUnavailableError: none was.
    """
    end = asyncio.get_running_loop().time() + ELECTION
    doubtful = False
    while True:
        try:
            return await write()
        except BrokerUnavailableError as error:
            failure, doubtful = error, doubtful or isinstance(error, NoAnswerError)
        await asyncio.sleep(PAUSE)
        left = end - asyncio.get_running_loop().time()
        if left <= 0 or not await broker.connected_within(min(RECONNECT, left)):
            raise NoAnswerError if doubtful else failure
