"""Keeps answers true while a cluster elects leaders: repeats writes, proves absence."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from secrets import token_hex
from typing import Final, TypeVar

from stint.core.errors import BrokerUnavailableError
from stint.core.names.subjects import barrier_subject
from stint.jetstream.streams.stream import Stream, subjects_of
from stint.jetstream.wire.broker import RECONNECT, Broker
from stint.jetstream.wire.protocol import NoAnswerError

ELECTION: Final = 10.0
"""Seconds for which a write is repeated. Servers elect 4 to 9 s after the last message of a leader; 3.8 measured."""
ANSWER: Final = 2.5  # seconds for each attempt. The first may have gone to the lost leader; the next must still fit
PAUSE: Final = 0.1  # seconds between attempts: without a leader each is refused at once

UNPROVEN: Final = "NATS cannot prove at the moment what is stored under this id. Try again."

T = TypeVar("T")


async def across_elections(broker: Broker, write: Callable[[], Awaitable[T]]) -> T:
    """Repeat a write that is refused because there is no leader, or not answered. It must be safe to repeat.

    If the connection is lost, this waits only as long as another server needs to take it over, so that the caller soon
    learns of the loss of a single server. Raises NoAnswerError if one of the attempts may have been accepted,
    BrokerUnavailableError if none was.
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


async def current_subjects(stream: Stream, pattern: str) -> Collection[str]:
    """The subjects under this pattern that have a message, by a server that has all that was acknowledged before.

    A server that was frozen may believe for a moment that it still leads after another was elected, and not know what
    that one has acknowledged; nothing that it says of its followers is evidence. A message that is stored now is: only
    a majority acknowledges it, and a server that has it has all that was acknowledged before. Raises
    BrokerUnavailableError if that cannot be proven.
    """
    info = await stream.info({"subjects_filter": pattern}, ANSWER)
    if info["config"]["num_replicas"] > 1:
        barrier = await stream.store(barrier_subject(token_hex(8)), ANSWER)
        info = await stream.info({"subjects_filter": pattern}, ANSWER)
        if info["state"]["last_seq"] < barrier:
            raise BrokerUnavailableError(UNPROVEN)
    return subjects_of(info)
