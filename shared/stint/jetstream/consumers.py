"""The durable consumers of WORK, one a queue: made, found, and seen to be another one than before."""

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
"""Seconds to wait, at least and at most, before a consumer is made whose deletion may be under way. A create that
races with the deletion of the same name loses its directory to it."""

CONSUMER_EXISTS: Final = 10148
"""A consumer of this name is there, with other settings."""
_CREATE_FAILED: Final = 10012
"""The server cannot make it. It says so for ever of a consumer that has lost its directory but serves on."""
_GONE: Final = frozenset({10014, 10059})
"""There is no such consumer, or no such stream."""


class ConsumerInfo(NamedTuple):
    """A consumer as the server has it.

    Attributes:
        created: tells it apart from any that is made later under the same name.
        lease: `ack_wait`, in seconds.
        consumer_sequence: number of its last delivery.
        stream_sequence: of that delivery's message.
        pending: whether a delivery is out and not acknowledged.
    """

    created: str
    lease: float
    consumer_sequence: int
    stream_sequence: int
    pending: bool


async def consumer_info(broker: Broker, name: str) -> ConsumerInfo | None:
    """The consumer of this name, None if there is none."""
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
    """Make a queue's consumer with this lease, or leave the one that is there as it is.

    Args:
        broker: the connection.
        token: the queue's token.
        lease: in seconds. An existing consumer keeps its own: a shorter one would cut leases that are held.
        deleted: one of this name was there a moment ago.

    Raises:
        BrokerRefusedError: the server refuses to make it, and there is none.
    """
    if deleted:
        await asyncio.sleep(random.uniform(*DELETION_PAUSE))  # noqa: S311 - jitter. The server tells nobody when it is done
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
    # Only ever `create`: an update with a shorter ack_wait would cut leases that are being held.
    request = {"stream_name": WORK, "config": config, "action": "create"}
    answer = await broker.api(f"CONSUMER.CREATE.{WORK}.{name}", request)
    if error_code(answer) == CONSUMER_EXISTS:
        return
    if error_code(answer) == _CREATE_FAILED and await consumer_info(broker, name):
        log.warning("consumer has lost its directory and serves on", consumer=name)
        return
    check(answer)
