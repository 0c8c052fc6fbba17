"""The streams and buckets, declared once with explicit settings."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog

from stint.core.errors import StintError
from stint.core.subjects import (
    EVENTS,
    IMAGES_BUCKET,
    JOBS_BUCKET,
    LOGS,
    PAYLOADS,
    RUNNERS_BUCKET,
    WORK,
    event_filter,
    hint_subject,
    kv_stream,
    kv_subject,
    live_filter,
    log_subject,
    payload_subject,
    tail_subject,
)
from stint.jetstream.answers import check, error_code
from stint.jetstream.broker import Broker

log = structlog.get_logger()

_NANOSECONDS: Final = 10**9
_STREAM_NOT_FOUND: Final = 10059

DUPLICATE_WINDOW: Final = 0.1
"""Seconds, the least there is: Stint relies on no message id, for a stranger's can make the broker swallow a submit."""
MAX_QUEUE_CONSUMERS: Final = 100_000
"""Queues with a live consumer at a time. Must be explicit: the server's own cap is 1000, and -1 does not lift it."""
MARKER_TTL: Final = 60
"""Seconds that an expired key's marker stays, for those who follow the bucket."""

DECLARE_PAUSE: Final = 2.0
"""Seconds between two attempts to declare the streams."""

_WILDCARDS: Final = ("{{wildcard(1)}}", "{{wildcard(2)}}", "{{wildcard(3)}}")
"""The parts of a subject that a republish carries over."""

_WRITE_ONCE: Final[Mapping[str, Any]] = {
    "retention": "limits",
    "max_msgs_per_subject": 1,
    "discard": "new",
    "discard_new_per_subject": True,
    "deny_delete": True,
    "deny_purge": False,
    "allow_rollup_hdrs": False,
    "allow_msg_ttl": False,
    "allow_direct": True,
    "duplicate_window": int(DUPLICATE_WINDOW * _NANOSECONDS),
}
"""A second publish of the same fact by anyone is refused in the broker."""


def stream_configs(replicas: int) -> list[dict[str, Any]]:
    """What `declare` creates, as the JetStream API wants it (durations in nanoseconds)."""
    common = {"storage": "file", "num_replicas": replicas}
    return [
        {
            "name": EVENTS,
            "subjects": [event_filter()],
            **_WRITE_ONCE,
            "allow_atomic": True,
            "republish": {"src": event_filter(), "dest": live_filter(*_WILDCARDS)},
            **common,
        },
        {"name": PAYLOADS, "subjects": [payload_subject("*", "*", "*")], **_WRITE_ONCE, **common},
        {
            "name": WORK,
            "sources": [{"name": EVENTS, "filter_subject": event_filter("submitted")}],
            "retention": "workqueue",
            "discard": "new",
            "max_consumers": MAX_QUEUE_CONSUMERS,
            "allow_direct": True,
            "republish": {
                "src": event_filter("submitted"),
                "dest": hint_subject(*_WILDCARDS[:2]),
                "headers_only": True,
            },
            **common,
        },
        {
            "name": LOGS,
            "subjects": [log_subject("*", "*")],
            "retention": "limits",
            "discard": "new",
            "deny_delete": True,
            "allow_direct": True,
            "duplicate_window": int(DUPLICATE_WINDOW * _NANOSECONDS),
            "republish": {"src": log_subject("*", "*"), "dest": tail_subject(*_WILDCARDS[:2])},
            **common,
        },
        *({**_bucket(bucket), **common} for bucket in (JOBS_BUCKET, RUNNERS_BUCKET, IMAGES_BUCKET)),
    ]


def _bucket(name: str) -> dict[str, Any]:
    """The stream behind a KV bucket with expiring keys, as NATS clients lay it out."""
    return {
        "name": kv_stream(name),
        "subjects": [kv_subject(name, ">")],
        "retention": "limits",
        "max_msgs_per_subject": 1,
        "discard": "new",
        "deny_delete": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": MARKER_TTL * _NANOSECONDS,
        "duplicate_window": int(DUPLICATE_WINDOW * _NANOSECONDS),
    }


async def declare(broker: Broker, replicas: int = 1) -> None:
    """Make what is missing. What is there with other settings is left alone, and said.

    Raises:
        BrokerUnavailableError: the server does not answer, or has no JetStream.
        BrokerRefusedError: it refuses a stream.
    """
    for config in stream_configs(replicas):
        answer = await broker.api(f"STREAM.INFO.{config['name']}")
        if error_code(answer) == _STREAM_NOT_FOUND:
            check(await broker.api(f"STREAM.CREATE.{config['name']}", config))
            continue
        differing = _differences(config, check(answer)["config"])
        if differing:
            log.warning("stream has other settings", stream=config["name"], settings=", ".join(differing))


async def declare_when_possible(broker: Broker, replicas: int = 1) -> None:
    """Declare as soon as NATS takes it, however long that takes. What is in the way is said whenever it changes."""
    said = ""
    while True:
        await broker.wait_connected()
        try:
            return await declare(broker, replicas)
        except StintError as error:
            if error.sentence != said:
                log.warning("the streams cannot be declared yet, trying for ever", error=error.sentence)
            said = error.sentence
        await asyncio.sleep(DECLARE_PAUSE)


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Names of the settings in which a stream differs. The server leaves out what is false or empty."""
    return [name for name, value in wanted.items() if (found.get(name) or None) != (value or None)]
