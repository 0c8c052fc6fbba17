"""The durable consumers: one per queue on WORK, and those of subscribers. `feed.py` has the projectors'."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from stint.core.names.patterns import QueuePatterns
from stint.core.names.streams import WORK, consumer_name
from stint.core.names.subjects import is_literal, token_of, work_subject
from stint.core.view import parse_time
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import NANOSECONDS, ErrorCode, check, error_code

INACTIVE_THRESHOLD: Final = 300  # seconds without pull, renewal or pending ack until a queue's consumer is deleted
SUBSCRIBER_ACK_WAIT: Final = 30.0  # seconds after which a message without a subscriber's ack is delivered again
SUBSCRIBER_MAX_PENDING: Final = 1000  # messages that may be without an ack of a subscriber at a time


class ConsumerInfo(NamedTuple):
    """A consumer as the server describes it."""

    created: str  # differs from that of a later consumer with the same name
    lease: float  # `ack_wait`, in seconds
    consumer_sequence: int  # number of its last delivery
    stream_sequence: int  # of the message that it delivered last
    acknowledged: int  # up to this sequence of the stream, all its messages are
    pending: bool  # whether a delivery is not acknowledged yet
    expired: bool  # whether the lease of that delivery may be over
    # Whether it has existed for less than a lease, so that no lease can have run out, whatever it delivered.
    young: bool
    waiting: int  # messages that were never delivered


async def consumer_info(broker: Broker, name: str, wait: float | None = None) -> ConsumerInfo | None:
    """The consumer with this name, None if there is none. `wait` as in `Broker.request`."""
    answer = await broker.api(f"CONSUMER.INFO.{WORK}.{name}", wait=wait)
    if error_code(answer) in {ErrorCode.CONSUMER_NOT_FOUND, ErrorCode.STREAM_NOT_FOUND}:
        return None
    return _info(check(answer))


def _info(found: Mapping[str, Any]) -> ConsumerInfo:
    lease, pending = float(found["config"]["ack_wait"]) / NANOSECONDS, found["num_ack_pending"] > 0
    return ConsumerInfo(
        created=found["created"],
        lease=lease,
        consumer_sequence=found["delivered"]["consumer_seq"],
        stream_sequence=found["delivered"]["stream_seq"],
        acknowledged=found["ack_floor"]["stream_seq"],
        pending=pending,
        expired=pending and _seconds(found["delivered"].get("last_active"), found["ts"]) >= lease,
        young=_seconds(found["created"], found["ts"]) < lease,
        waiting=found["num_pending"],
    )


def _seconds(begin: str | None, end: str) -> float:
    """Between two times of the server's clock; infinite if it does not know the first one."""
    return (parse_time(end) - parse_time(begin)).total_seconds() if begin else math.inf


async def create_consumer(broker: Broker, token: str, lease: float, *, in_memory: bool = True) -> dict[str, Any]:
    """Create a queue's consumer with this lease, and return NATS' answer; see `made`.

    An existing consumer keeps its own lease, because a shorter one would cut current leases.

    With `in_memory` a single server that is restarted has none any more, and the next one delivers from the beginning
    (ADR 0042).
    """
    config = consumer_config(consumer_name(token), lease) | {
        "filter_subject": work_subject(token),
        "max_ack_pending": 1,
        "mem_storage": in_memory,
        "inactive_threshold": INACTIVE_THRESHOLD * NANOSECONDS,
    }
    return await write_consumer(broker, WORK, config, "create")  # never an update, see `lease`


def made(answer: dict[str, Any]) -> ConsumerInfo | None:
    """The consumer in an answer to `create_consumer`; None if one has another lease. Raises BrokerRefusedError."""
    return None if error_code(answer) == ErrorCode.CONSUMER_EXISTS else _info(check(answer))


def consumer_config(name: str, ack_wait: float) -> dict[str, Any]:
    """The settings that all durable consumers have; `ack_wait` is in seconds."""
    return {
        "durable_name": name,
        "name": name,
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait * NANOSECONDS),
        "deliver_policy": "all",
    }


async def write_consumer(broker: Broker, stream: str, config: dict[str, Any], action: str = "") -> dict[str, Any]:
    """Create a consumer, or update it unless the `action` is `create`; returns the server's answer."""
    request = {"stream_name": stream, "config": config, "action": action}
    # A queue's filter is part of the subject, so that NATS' permissions can name queues.
    filtered = f".{config['filter_subject']}" if stream == WORK else ""
    return await broker.api(f"CONSUMER.CREATE.{stream}.{config['name']}{filtered}", request)


async def make_subscription(broker: Broker, stream: str, name: str, subjects: Sequence[str]) -> None:
    """Create a subscriber's consumer of what is stored on these subjects from now on. One that exists goes on.

    Raises BrokerRefusedError without such a stream.
    """
    config = consumer_config(name, SUBSCRIBER_ACK_WAIT) | {
        "deliver_policy": "new",
        "filter_subjects": list(subjects),
        "max_ack_pending": SUBSCRIBER_MAX_PENDING,
    }
    check(await write_consumer(broker, stream, config))


async def remove_subscription(broker: Broker, stream: str, name: str) -> None:
    """Delete a consumer; one that does not exist is no error."""
    check(await broker.api(f"CONSUMER.DELETE.{stream}.{name}"), ErrorCode.CONSUMER_NOT_FOUND)


async def queues_in_use(broker: Broker) -> Mapping[str, bool]:
    """The queues with a consumer, by their tokens, and whether somebody has a job of theirs now."""
    found: dict[str, bool] = {}
    seen = 0
    while page := check(await broker.api(f"CONSUMER.LIST.{WORK}", {"offset": seen}))["consumers"]:
        for one in page:  # anybody's: an operator can have made one without a filter, or with several
            found[token_of(one["config"].get("filter_subject", ""))] = one["num_ack_pending"] > 0
        seen += len(page)
    return found


async def pending_jobs(broker: Broker, served: QueuePatterns) -> Mapping[str, int]:
    """How many jobs each of these queues has that are not acknowledged, by the queue's token; only those that have."""
    jobs = Stream(broker, WORK).counts(work_subject("*"))
    found = {token_of(subject): count async for page in jobs for subject, count in page.items()}
    return {token: count for token, count in found.items() if is_literal(token) and served.serves_token(token)}
