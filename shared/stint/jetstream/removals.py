"""How a submission is removed from WORK once a runner has acknowledged it. The sweeper finds what is left."""

from contextlib import suppress
from typing import Final

import msgspec
import structlog

from stint.core.errors import BrokerUnavailableError, StintError
from stint.core.names.streams import WORK
from stint.core.names.subjects import removal_subject, work_subject
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import subject_of

log = structlog.get_logger()

GROUP: Final = "removals"
"""The queue group in which projectors listen, so that one of them removes."""
_DIGITS: Final = 18
"""Of a sequence, at most."""


async def remove(broker: Broker, token: str, sequence: int, *, confined: bool) -> None:
    """Have a queue's submission removed, by its sequence in WORK, without waiting for it.

    Who is `confined` to some queues asks a projector: a request to NATS names the message in its body, and NATS'
    permissions are for subjects.
    """
    with suppress(BrokerUnavailableError):
        if confined:
            await broker.send(removal_subject(token, sequence))
        else:
            request = {"seq": sequence, "no_erase": True}
            await broker.send(f"{broker.prefix}.STREAM.MSG.DELETE.{WORK}", msgspec.json.encode(request))


class Removals:
    """Removes submissions for confined runners, as far as they are of the queue that the request's subject names."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._work = Stream(broker, WORK)

    async def run(self) -> None:
        """Remove until cancelled."""
        await self._broker.wait_connected()
        async with self._broker.subscribe(removal_subject("*", "*"), queue=GROUP) as requests:
            async for request in requests.messages:
                try:
                    await self._remove(request.subject)
                except StintError as error:
                    log.debug("a submission could not be removed, the sweeper does it", error=error.sentence)

    async def _remove(self, subject: str) -> None:
        _, token, digits = subject.split(".")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS and (sequence := int(digits))):
            return
        message = await self._work.get({"seq": sequence})
        if message is not None and subject_of(message) == work_subject(token):
            await self._work.delete_message(sequence)
