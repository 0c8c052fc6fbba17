"""How submissions are removed from WORK behind their acks. The sweeper finds what is left."""

from contextlib import suppress
from typing import Final

from nats.aio.msg import Msg

from stint.core.errors import StintError
from stint.core.names.streams import WORK, consumer_name
from stint.core.names.subjects import is_literal, removal_subject, token_of, work_subject
from stint.jetstream.consuming.consumers import consumer_info
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.fair import answer_fairly
from stint.jetstream.wire.protocol import sequence_of
from stint.jetstream.wire.requests import DeniedError

GROUP: Final = "removals"  # the queue group in which projectors listen, so that one of them removes
OF_A_QUEUE: Final = 2
"""Requests about one queue at a time: of an ack, and of one that came too late for the other's look. What a further one
asks for is removed with the queue's next ack, or by the sweeper."""


class Remover:
    """Has submissions removed that this runner has acknowledged. It waits for the first removal only.

    A request to NATS names the message in its body, and NATS' permissions are for subjects. So a runner that is
    confined to some queues asks a projector.
    """

    def __init__(self, broker: Broker, *, confined: bool) -> None:
        """Whether it is confined, it also learns from the first removal."""
        self._broker = broker
        self._work = Stream(broker, WORK)
        self._permitted: bool | None = False if confined else None

    async def remove(self, token: str, sequence: int) -> None:
        """Remove the queue's submission that has this sequence in WORK, if that can be done now."""
        with suppress(StintError):  # the queue has gone on already, and the sweeper removes what is left
            if self._permitted is not False:
                try:
                    await self._work.delete_message(sequence, wait=self._permitted is None)
                    self._permitted = True
                except DeniedError:
                    self._permitted = False
            if not self._permitted:
                await self._broker.send(removal_subject(token))


async def serve_removals(broker: Broker) -> None:
    """Remove what confined runners have acknowledged, until cancelled. What fails is left to the sweeper.

    They name only their queue, so that no request can do harm.
    """

    async def answer(message: Msg) -> None:
        await remove_acknowledged(broker, token_of(message.subject))

    await answer_fairly(broker, removal_subject("*"), GROUP, answer, of_a_queue=OF_A_QUEUE)


async def remove_acknowledged(broker: Broker, token: str) -> None:
    """Remove the submissions of a queue that its consumer will not deliver again. Safe at any time.

    NATS counts a consumer's messages wrong if one in front of it is removed while it is created: so none is, unless
    there is a consumer that has delivered it.
    """
    found = await consumer_info(broker, consumer_name(token)) if is_literal(token) else None
    if found is None:
        return
    work = Stream(broker, WORK)
    async for message in work.each(work_subject(token)):
        if sequence_of(message) > found.acknowledged:
            return
        await work.delete_message(sequence_of(message))
