"""All events in the order of the log, for whoever keeps an index of them."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from stint.core.events import Record
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import is_event
from stint.jetstream.log.operations import operations
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import records, sequence_of, subject_of
from stint.ports import StreamState


class FactsPage(NamedTuple):
    """Events of jobs, and of queues and runners; and the sequence of the last message read, which need not be one."""

    sequence: int
    records: Sequence[Record]
    operations: Sequence[Record] = ()


class JetStreamFacts:
    """Reads EVENTS from a position on.

    No consumer: it could deliver to any subject, and a role that may create one could forge what others write.
    """

    def __init__(self, broker: Broker) -> None:
        self._events = Stream(broker, EVENTS)

    async def state(self) -> StreamState:
        """By which a reader notices that its position is one of another log."""
        return await self._events.state()

    async def pages(self, *, after: int) -> AsyncIterator[FactsPage]:
        """The events behind this sequence up to the newest, from any replica."""
        async for messages in self._events.pages(after=after):
            events = [message for message in messages if is_event(subject_of(message))]
            yield FactsPage(sequence_of(messages[-1]), list(records(events)), list(operations(events)))
