"""The durable consumers of WORK, one per queue: how they are created, found, and told apart from earlier ones."""

import asyncio
import random
from typing import Final, NamedTuple

import structlog

from stint.core.subjects import WORK, consumer_name, event_filter
from stint.jetstream.answers import check, error_code
from stint.jetstream.broker import Broker

log = structlog.get_logger()

NANOSECONDS: Final = 10**9
INACTIVE_THRESHOLD: Final = 300
"""Seconds without a pull, renewal or pending ack after which the server deletes a queue's consumer."""
DELETION_PAUSE: Final = (0.05, 0.1)
"""Minimum and maximum of the seconds before a consumer is created whose deletion may be in progress: a deletion that
is concurrent with a create of the same name removes the new consumer's directory."""

CONSUMER_EXISTS: Final = 10148
"""A consumer with this name exists, with other settings."""
_CREATE_FAILED: Final = 10012
"""The server cannot create it. It always says so of a consumer that has lost its directory but still works."""
_GONE: Final = frozenset({10014, 10059})
"""There is no such consumer, or no such stream."""


class ConsumerInfo(NamedTuple):
    """A consumer as the server describes it.

    Attributes:
        created: differs from that of a later consumer with the same name.
        lease: `ack_wait`, in seconds.
        consumer_sequence: number of its last delivery.
        stream_sequence: of that delivery's message.
        pending: whether a delivery is not acknowledged yet.
    """

    created: str
    lease: float
    consumer_sequence: int
    stream_sequence: int
    pending: bool


async def consumer_info(broker: Broker, name: str) -> ConsumerInfo | None:
    """The consumer with this name, None if there is none."""
    answer = await broker.api(f"CONSUMER.INFO.{WORK}.{name}")
    if error_code(answer) in _GONE:
        return None
    found = check(answer)
    return ConsumerInfo(
        created=found["created"],
        lease=float(found["config"]["ack_wait"]) / NANOSECONDS,
        consumer_sequence=found["delivered"]["consumer_seq"],
        stream_sequence=found["delivered"]["stream_seq"],
        pending=found["num_ack_pending"] > 0,
    )


async def make_consumer(broker: Broker, token: str, lease: float, *, deleted: bool = False) -> None:
    """Create a queue's consumer with this lease; an existing one is not changed.

    Args:
        broker: the connection.
        token: the queue's token.
        lease: in seconds. An existing consumer keeps its own: a shorter one would cut current leases.
        deleted: whether one with this name existed a moment ago.

    Raises:
        BrokerRefusedError: the server refuses to create it, and there is none.
    """
    if deleted:
        await asyncio.sleep(random.uniform(*DELETION_PAUSE))  # noqa: S311 - jitter. The server does not say when it is done
    name = consumer_name(token)
    config = {
        "durable_name": name,
        "name": name,
        "filter_subject": event_filter("submitted", token),
        "ack_policy": "explicit",
        "ack_wait": int(lease * NANOSECONDS),
        "max_ack_pending": 1,
        "deliver_policy": "all",
        "inactive_threshold": INACTIVE_THRESHOLD * NANOSECONDS,
    }
    # Always `create`: an update with a shorter ack_wait would cut current leases.
    request = {"stream_name": WORK, "config": config, "action": "create"}
    answer = await broker.api(f"CONSUMER.CREATE.{WORK}.{name}", request)
    if error_code(answer) == CONSUMER_EXISTS:
        return
    if error_code(answer) == _CREATE_FAILED and await consumer_info(broker, name):
        log.warning("consumer has lost its directory but still works", consumer=name)
        return
    check(answer)
