"""What operators do to queues and runners, in the EVENTS stream."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from stint.core.audit.operations import OPERATIONS, AnyOperation, address_of, to_operation
from stint.core.codec import cloudevents, encode
from stint.core.events import Record
from stint.core.names.headers import TIME
from stint.core.names.ids import FLEET_TOKEN, is_job_id, is_queue_token
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import EventAddress, event_address
from stint.jetstream.streams.consistency import ANSWER, across_elections
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import EXPECTED_SEQUENCE, ErrorCode, Stored, check, sequence_of, subject_of


class JetStreamOperations:
    """Writes and reads operations. Only the API may write them."""

    def __init__(self, broker: Broker, *, as_cloudevents: bool = False) -> None:
        """`as_cloudevents` gives each operation the headers of a CloudEvent."""
        self._broker = broker
        self._as_cloudevents = as_cloudevents
        self._events = Stream(broker, EVENTS)

    async def record(self, event: AnyOperation, operation_id: str, token: str = FLEET_TOKEN) -> None:
        """Store an operation on a queue, or on a runner. It must be there before anything is done.

        `operation_id` is new, in the form of a job's id. BrokerUnavailableError: it is not known whether it is stored.
        """
        address = address_of(event, token, operation_id)
        headers = {EXPECTED_SEQUENCE: "0", **(cloudevents(address, event) if self._as_cloudevents else {})}

        async def once() -> dict[str, Any]:
            return await self._broker.publish(address.subject, encode(event), headers, wait=ANSWER)

        # If the subject has a message already, an earlier attempt has stored it.
        check(await across_elections(self._broker, once), ErrorCode.WRONG_LAST_SEQUENCE)

    async def read(self, addresses: Collection[EventAddress]) -> Mapping[EventAddress, Record]:
        """Those of up to 1024 operations that are stored."""
        found = operations(await self._events.last_of_all([address.subject for address in addresses]))
        return {EventAddress(one.kind, one.token, one.job_id): one for one in found}


def operations(messages: Iterable[Stored]) -> Iterator[Record]:
    """The operations among messages of EVENTS, without those whose subject names no queue."""
    for message in messages:
        address = event_address(subject_of(message))
        of_queue_or_runner = address.token == FLEET_TOKEN or is_queue_token(address.token)
        if address.kind in OPERATIONS and is_job_id(address.job_id) and of_queue_or_runner:
            time = (message.headers or {})[TIME]
            yield to_operation(address, message.data, sequence=sequence_of(message), time=time)
