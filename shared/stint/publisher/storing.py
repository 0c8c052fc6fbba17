"""Messages that a stream stores once."""

from collections.abc import Mapping
from typing import Final

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.jetstream import Broker
from stint.jetstream.wire.protocol import EXPECTED_SEQUENCE, NOT_FIRST, NoAnswerError, check, error_code
from stint.jetstream.wire.requests import DeniedError

ATTEMPTS: Final = 3
"""Publishes of one message that is not acknowledged."""
ANSWER: Final = 5.0
"""Seconds for each answer."""


async def store(broker: Broker, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """Publish this message until NATS has acknowledged it. The subject is ours alone, so that it is safe to repeat.

    Raises:
        BrokerRefusedError: NATS refuses to store it.
        BrokerUnavailableError: NATS did not answer; it may be stored.
    """
    doubtful = False
    for _ in range(ATTEMPTS):
        try:
            answer = await broker.publish(subject, body, {**(headers or {}), EXPECTED_SEQUENCE: "0"}, ANSWER)
        except DeniedError:
            raise BrokerRefusedError("NATS does not permit this publisher to submit to the queue.") from None
        except NoAnswerError:
            doubtful = True
            await broker.connected_within(ANSWER)
            continue
        if not (doubtful and error_code(answer) in NOT_FIRST):
            check(answer)
        return
    raise BrokerUnavailableError("NATS did not acknowledge the message.")
