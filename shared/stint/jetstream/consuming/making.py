"""How a runner gets a queue's consumer: it makes it, or has a projector make it if NATS does not permit that.

Whoever creates a consumer chooses where its messages go: to any subject of the streams' account, without a permission
for that subject. So the key of a pool may create none (ADR 0043).
"""

from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from nats.aio.msg import Msg

from stint.core.codec import decode, encode
from stint.core.errors import BrokerUnavailableError, StintError, UndecodableError
from stint.core.names.subjects import consumer_subject, is_literal, token_of
from stint.jetstream.consuming.consumers import ConsumerInfo, create_consumer, made
from stint.jetstream.wire.broker import Broker, NoRespondersError
from stint.jetstream.wire.fair import answer_fairly
from stint.jetstream.wire.protocol import NoAnswerError
from stint.jetstream.wire.requests import DeniedError

GROUP: Final = "consumers"  # the queue group in which projectors listen, so that one of them answers
OF_A_QUEUE: Final = 4
"""Requests about one queue that wait at a time: far fewer than are answered at a time, so that others have places. A
runner that is one too many asks again; the consumer is there by then."""
ASKED: Final = 2  # times that projectors are asked: one that is frozen is still in the group
ANSWER: Final = 1.5  # seconds for each answer
NO_PROJECTOR: Final = (
    "No projector makes this queue's consumer, or none in time, and NATS does not permit this runner to make it."
)


class Wanted(msgspec.Struct, frozen=True):
    """What a runner wants of a queue's consumer."""

    lease: Annotated[float, msgspec.Meta(ge=0.5, le=10**9)]  # in seconds, within the bounds of `STINT_LEASE`


class ConsumerMaker:
    """Makes queues' consumers."""

    def __init__(self, broker: Broker, *, confined: bool, in_memory: bool) -> None:
        """A runner that is confined to some queues asks a projector first; any other one if it is denied to do it.

        `in_memory`: see `stint.jetstream.consuming.consumers.create_consumer`.
        """
        self._broker = broker
        self._asks = confined
        self._in_memory = in_memory

    async def make(self, token: str, lease: float) -> ConsumerInfo | None:
        """Create a queue's consumer, unless there is one. Returns it if it has this lease.

        Raises BrokerUnavailableError where only a projector may do that, and none answers.
        """
        return made(await self._obtain(token, lease))

    async def _obtain(self, token: str, lease: float) -> dict[str, Any]:
        if not self._asks:
            with suppress(DeniedError):
                return await create_consumer(self._broker, token, lease, in_memory=self._in_memory)
            self._asks = True
        for _ in range(ASKED):
            try:
                answer = await self._broker.request(consumer_subject(token), encode(Wanted(lease)), wait=ANSWER)
            except NoAnswerError:  # of a projector that is frozen; it is no harm if both carry it out
                continue
            except (NoRespondersError, DeniedError):
                break
            return decode(answer.data, dict[str, Any])
        try:  # a NATS without accounts permits it, and so do accounts that an earlier `stint nats-config` wrote
            return await create_consumer(self._broker, token, lease, in_memory=self._in_memory)
        except DeniedError:
            raise BrokerUnavailableError(NO_PROJECTOR) from None


async def serve_consumers(broker: Broker, *, in_memory: bool) -> None:
    """Make the consumers that pools ask for, until cancelled. The answer is that of NATS.

    NATS permits pools the subjects of their queues, and no setting is theirs.
    """

    async def made_as_asked(message: Msg) -> dict[str, Any]:
        if not is_literal(token := token_of(message.subject)):
            raise UndecodableError("The subject names no queue.")
        return await create_consumer(broker, token, decode(message.data, Wanted).lease, in_memory=in_memory)

    async def answer(message: Msg) -> None:
        try:
            said = await made_as_asked(message)
        except StintError as error:
            away = isinstance(error, BrokerUnavailableError)
            code = HTTPStatus.SERVICE_UNAVAILABLE if away else HTTPStatus.BAD_REQUEST
            said = {"error": {"code": code, "description": error.sentence}}
        await broker.send(message.reply, msgspec.json.encode(said))

    await answer_fairly(broker, consumer_subject("*"), GROUP, answer, of_a_queue=OF_A_QUEUE)
