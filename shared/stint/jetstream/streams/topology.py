"""The streams and buckets, declared once with explicit settings."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import structlog

from stint.core.errors import OtherLayoutError, StintError
from stint.core.events import EVENT_BYTES
from stint.core.names.streams import (
    EVENTS,
    IMAGES_BUCKET,
    JOBS_BUCKET,
    KEPT,
    LOGS,
    PAUSES_BUCKET,
    PAYLOADS,
    RUNNERS_BUCKET,
    SESSIONS_BUCKET,
    SIGNERS_BUCKET,
    WORK,
    kv_stream,
)
from stint.core.names.subjects import (
    barrier_subject,
    event_filter,
    hint_subject,
    kept_subject,
    kv_subject,
    live_filter,
    log_subject,
    payload_subject,
    tail_subject,
    work_subject,
)
from stint.jetstream.streams.bucket import MARKER_TTL
from stint.jetstream.streams.sourcing import as_declared, source
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import NANOSECONDS, ErrorCode, check, error_code
from stint.process.waiting import repeat

log = structlog.get_logger()

DUPLICATE_WINDOW: Final = 0.1
"""Seconds, the minimum. Stint uses no message ids: with a stranger's id the broker could discard a submission."""
MAX_QUEUE_CONSUMERS: Final = 100_000
"""Queues with a consumer at a time. It must be explicit: the server's own limit is 1000, and -1 does not lift it."""
LAYOUT: Final = {"stint.layout": "2"}  # metadata of streams: the subjects' version. 1 had `ev.<event>.<queue>.<job>`
DECLARE_PAUSE: Final = 2.0  # seconds between two attempts to declare the streams
CHECK_INTERVAL: Final = 10.0  # seconds between two looks for streams that were deleted
NOT_MADE_AGAIN: Final = frozenset({EVENTS, kv_stream(PAUSES_BUCKET)})
"""A person decides whether these are created again: with an empty log, or without pauses, jobs would run that must not.
Without them none is claimed."""

_WILDCARDS: Final = ("{{wildcard(1)}}", "{{wildcard(2)}}", "{{wildcard(3)}}")
"""The parts of a subject that are copied when a message is republished."""

_DUPLICATES: Final = int(DUPLICATE_WINDOW * NANOSECONDS)

_WRITE_ONCE: Final[Mapping[str, Any]] = {
    "retention": "limits",
    "max_msgs_per_subject": 1,
    "discard": "new",
    "discard_new_per_subject": True,
    "deny_delete": True,
    "deny_purge": False,
    "allow_rollup_hdrs": False,
    "allow_msg_ttl": False,
    "allow_atomic": False,
    "allow_direct": True,
    "duplicate_window": _DUPLICATES,
}
"""The broker refuses a second publish of the same event, whoever sends it. Publishers begin no atomic batches there."""

_EVENTS: Final[Mapping[str, Any]] = {
    "name": EVENTS,
    "subjects": [event_filter(), barrier_subject("*")],
    **_WRITE_ONCE,
    "max_msg_size": EVENT_BYTES,
    "republish": {"src": event_filter(), "dest": live_filter(*reversed(_WILDCARDS))},
}
_PAYLOADS: Final[Mapping[str, Any]] = {"name": PAYLOADS, "subjects": [payload_subject("*", "*", "*")], **_WRITE_ONCE}
_KEPT: Final[Mapping[str, Any]] = {
    "name": KEPT,
    "subjects": [kept_subject("*", "*", "*", "*")],
    **_WRITE_ONCE,
    "allow_msg_ttl": True,
}
_WORK: Final[Mapping[str, Any]] = {
    "name": WORK,
    "sources": [source()],
    "retention": "limits",
    "discard": "new",
    "max_consumers": MAX_QUEUE_CONSUMERS,
    "allow_direct": True,
    "republish": {"src": work_subject("*"), "dest": hint_subject(_WILDCARDS[0]), "headers_only": True},
}
_LOGS: Final[Mapping[str, Any]] = {
    "name": LOGS,
    "subjects": [log_subject("*", "*")],
    "retention": "limits",
    "discard": "new",
    "deny_delete": True,
    "allow_direct": True,
    "duplicate_window": _DUPLICATES,
    "republish": {"src": log_subject("*", "*"), "dest": tail_subject(*_WILDCARDS[:2])},
}


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
        "allow_atomic": False,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": MARKER_TTL * NANOSECONDS,
        "duplicate_window": _DUPLICATES,
    }


_PAUSES: Final[Mapping[str, Any]] = {
    **_bucket(PAUSES_BUCKET),
    "republish": {"src": kv_subject(PAUSES_BUCKET, "*"), "dest": hint_subject(_WILDCARDS[0]), "headers_only": True},
}
"""The end of a pause is a hint, so that the queue goes on at once."""


def stream_configs(replicas: int) -> list[dict[str, Any]]:
    """The streams that `declare` creates, in the form of the JetStream API (durations in nanoseconds)."""
    views = {**_bucket(JOBS_BUCKET), "allow_atomic": True}  # projectors alone write there
    buckets = map(_bucket, (RUNNERS_BUCKET, IMAGES_BUCKET, SESSIONS_BUCKET, SIGNERS_BUCKET))
    common = {"storage": "file", "num_replicas": replicas, "metadata": LAYOUT}
    return [{**stream, **common} for stream in (_EVENTS, _PAYLOADS, _KEPT, _WORK, _LOGS, views, *buckets, _PAUSES)]


async def declare(broker: Broker, replicas: int = 1) -> None:
    """Create missing streams. A stream with other settings is not changed; the differences are logged.

    Several servers without copies are logged, too: nothing else would show it before one is lost.

    Raises:
        BrokerUnavailableError: the server does not answer, or has no JetStream.
        BrokerRefusedError: it refuses a stream.
        OtherLayoutError: a stream has the subjects of another version of Stint. Nothing was written to it.
    """
    for config in stream_configs(replicas):
        info = await _info(broker, config)
        if info is None:
            await _create(broker, config)
            continue
        found = info["config"]
        if not LAYOUT.items() <= found.get("metadata", {}).items():
            raise OtherLayoutError(f"The stream {config['name']} was made by another version of Stint, or by hand.")
        differing = _differences(config, as_declared(found))
        if differing:
            log.warning("stream has other settings", stream=config["name"], settings=", ".join(differing))
    if replicas == 1 and broker.several:
        log.warning("one copy of each stream in a cluster: what a lost server has is lost", setting="STINT_REPLICAS")


async def declare_when_possible(broker: Broker, replicas: int = 1) -> None:
    """Declare the streams when NATS accepts them; log each new reason why not. An OtherLayoutError ends the process."""
    said = ""
    while True:
        await broker.wait_connected()
        try:
            return await declare(broker, replicas)
        except OtherLayoutError as error:
            broker.give_up(error)
            raise
        except StintError as error:
            if error.sentence != said:
                log.warning("the streams cannot be declared yet, retrying", error=error.sentence)
            said = error.sentence
        await asyncio.sleep(DECLARE_PAUSE)


class Streams:
    """Declares the streams, and creates again what somebody deletes while services run."""

    def __init__(self, broker: Broker, replicas: int = 1) -> None:
        self.whole = False  # whether all are there, as far as is known
        self._broker = broker
        self._replicas = replicas

    async def run(self) -> NoReturn:
        """Run until cancelled, through any outage. Raises OtherLayoutError, see `declare_when_possible`."""
        await declare_when_possible(self._broker, self._replicas)
        self.whole = True
        await repeat(self.look, lambda: CHECK_INTERVAL, failed="check of the streams failed")

    async def look(self) -> None:
        """Look once for deleted streams. Each is logged as an error, because what it held is lost."""
        deleted = [config for config in stream_configs(self._replicas) if await _info(self._broker, config) is None]
        self.whole = not deleted
        for config in deleted:
            name = config["name"]
            if name in NOT_MADE_AGAIN:
                log.error("stream was deleted: restore it, or restart a service to have it empty", stream=name)
            else:
                await _create(self._broker, config)
                log.error("stream was deleted, created it again without what it held", stream=name)
        self.whole = not any(config["name"] in NOT_MADE_AGAIN for config in deleted)


async def _info(broker: Broker, config: Mapping[str, Any]) -> dict[str, Any] | None:
    answer = await broker.api(f"STREAM.INFO.{config['name']}")
    return None if error_code(answer) == ErrorCode.STREAM_NOT_FOUND else check(answer)


async def _create(broker: Broker, config: Mapping[str, Any]) -> None:
    check(await broker.api(f"STREAM.CREATE.{config['name']}", config))


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ. The server omits settings that are false or empty."""
    of_our_own = {name: value for name, value in wanted.items() if name != "metadata"}  # the server adds to that
    return [name for name, value in of_our_own.items() if (found.get(name) or None) != (value or None)]
