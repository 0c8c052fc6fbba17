"""The durable consumers of subscribers, which the operator makes for them."""

from collections.abc import Sequence
from typing import Final

from stint.jetstream.consuming.consumers import consumer_config, write_consumer
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import ErrorCode, check, error_code

ACK_WAIT: Final = 30.0
"""Seconds after which a message without an ack is delivered again."""
MAX_PENDING: Final = 1000
"""Messages that may be without an ack at a time."""


async def make_subscription(broker: Broker, stream: str, name: str, subjects: Sequence[str]) -> None:
    """Create a consumer of what is stored on these subjects from now on. An existing one keeps its position.

    Raises:
        BrokerRefusedError: there is no such stream, or the server refuses it.
    """
    config = consumer_config(name, ACK_WAIT) | {
        "deliver_policy": "new",
        "filter_subjects": list(subjects),
        "max_ack_pending": MAX_PENDING,
    }
    answer = await write_consumer(broker, stream, config, "create")
    if error_code(answer) == ErrorCode.CONSUMER_EXISTS:
        answer = await write_consumer(broker, stream, config, "update")
    check(answer)


async def remove_subscription(broker: Broker, stream: str, name: str) -> None:
    """Delete a consumer; one that does not exist is no error."""
    answer = await broker.api(f"CONSUMER.DELETE.{stream}.{name}")
    if error_code(answer) != ErrorCode.CONSUMER_NOT_FOUND:
        check(answer)
