"""Writes across the loss of a leader: the same message again, until it is answered or the time is over."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from stint.core.errors import BrokerUnavailableError
from stint.jetstream.broker import RECONNECT, Broker
from stint.jetstream.driver import NoAnswerError

ELECTION: Final = 10.0
"""Seconds that a write is repeated. Servers elect after 4 to 9 without a leader's word; 3.8 measured."""
ANSWER: Final = 2.5
"""Seconds for each try. The first may have gone to the leader that fell, the next ones must still fit."""
PAUSE: Final = 0.1
"""Seconds between tries: without a leader each is refused at once."""

T = TypeVar("T")


async def across_elections(broker: Broker, write: Callable[[], Awaitable[T]]) -> T:
    """Repeat a write while it is refused for want of a leader, or not answered. It must be safe to repeat.

    A connection that is lost is waited for no longer than another server needs to take it over: whose only server is
    gone learns so soon.

    Raises:
        NoAnswerError: one of the tries may have been taken.
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
