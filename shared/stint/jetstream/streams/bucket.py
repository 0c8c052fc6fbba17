"""One KV bucket: reading, following and writing its keys."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Final, NamedTuple

from nats.aio.msg import Msg

from stint.core.errors import BrokerUnavailableError
from stint.core.names.headers import MARKER
from stint.core.names.streams import kv_stream
from stint.core.names.subjects import kv_subject
from stint.core.view import parse_time
from stint.jetstream.streams.stream import ALL, LEADER_WAIT, Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import (
    EXPECTED_SEQUENCE,
    NANOSECONDS,
    ErrorCode,
    NoAnswerError,
    Stored,
    batched,
    check,
    error_code,
    lifetime,
    position_of,
    sequence_of,
    subject_of,
    time_of,
)
from stint.jetstream.wire.pulls import ANSWER_MARGIN, EXPIRED, Inbox, request_messages
from stint.ports import ViewPut

MARKER_TTL: Final = 60  # seconds for which the marker of a deleted or expired key is kept, for those who follow
OPERATION: Final = "KV-Operation"  # the header of a message that ends a key
FOLLOWED: Final = 500
"""Messages that one pull asks for, and of a page: two milliseconds of work for who reads views. As in `EventFeed`, so
many of the largest views must not be too much for a connection."""
PULL_WAIT: Final = 1.0  # seconds that a pull stays open without a message
KEPT: Final = 10  # seconds after the last pull for which the server keeps the consumer


class Entry(NamedTuple):
    """A key's last value and revision. `value` is None if the key was deleted or has expired."""

    key: str
    revision: int
    value: bytes | None


class Bucket(Stream):
    """One KV bucket. nats-py's `KeyValue` reads from any replica, and its watch does not notice a purge."""

    def __init__(self, broker: Broker, name: str) -> None:
        super().__init__(broker, kv_stream(name))
        self._prefix = kv_subject(name, "")

    async def read(self, key: str) -> Entry | None:
        """A key's entry, from the leader; None if there is none."""
        message = await self.last(self._prefix + key)
        return self._entry(message) if message else None

    async def some(self, keys: Collection[str]) -> Sequence[Entry]:
        """The entries of up to 1024 keys. What a replica lacks is asked of the leader; keys without one are omitted."""
        return [self._entry(message) for message in await self.last_of_all([self._prefix + key for key in keys])]

    async def entry_page(self, *, after: int = 0) -> Sequence[Entry]:
        """The next entries with a revision above `after`, from any replica. Empty at the end."""
        return [self._entry(message) for message in await self.page(after=after)]

    async def entries(self, keys: str = "") -> AsyncIterator[Entry]:
        """The entries, from any replica. `keys` may contain wildcards; all by default."""
        async for messages in self.pages(self._prefix + keys if keys else ALL):
            for message in messages:
                yield self._entry(message)

    async def current_entries(self) -> AsyncIterator[Entry]:
        """All entries. What a replica lacks comes from the leader: the last entry of a key that comes twice counts.

        While nobody leads the stream, there is only what a replica has.
        """
        last = 0
        async for entry in self.entries():
            last = entry.revision
            yield entry
        if self._broker.several:
            with suppress(BrokerUnavailableError):
                async for message in self.each(ALL, LEADER_WAIT, after=last):
                    yield self._entry(message)

    @asynccontextmanager
    async def follow(self, *, after: int) -> AsyncIterator[AsyncIterator[list[Entry]]]:
        """The entries that have a revision above `after`, in pages.

        A page is empty when all that there is has been given, and at least once in `PULL_WAIT`.

        The pages come from a consumer in the server's memory. That takes a quarter of the time of direct gets, whose
        messages carry their place in headers. The iterator raises `BrokerUnavailableError` when the consumer is lost.
        """
        inbox = Inbox(FOLLOWED, self._broker.lost)
        async with self._broker.subscribe(self._broker.client.new_inbox(), cb=inbox.receive) as subscription:
            config = {
                "ack_policy": "none",
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": after + 1,
                "filter_subject": f"{self._prefix}>",
                "mem_storage": True,
                "num_replicas": 1,
                "inactive_threshold": KEPT * NANOSECONDS,
            }
            request = {"stream_name": self._name, "config": config}
            consumer = check(await self._broker.api(f"CONSUMER.CREATE.{self._name}", request))
            pages = _pages(self._broker, consumer, inbox, subscription.subject)
            yield ([self._followed(message) for message in page] async for page in pages)

    async def ages(self) -> Sequence[tuple[Entry, timedelta]]:
        """The entries, and how long ago each was written, both by the server's clock."""
        now = parse_time((await self.info())["ts"])
        return [(self._entry(message), now - time_of(message)) async for page in self.pages() for message in page]

    async def write(self, key: str, value: bytes, *, revision: int | None = None, ttl: float | None = None) -> int:
        """Write a value that expires after `ttl` seconds; returns its revision, 0 if the key is not at `revision`."""
        return await self._publish(self._prefix + key, value, _condition(revision, ttl))

    async def write_all(self, views: Sequence[ViewPut]) -> Sequence[int]:
        """Write up to 250 views, all or none; returns their revisions, or nothing if a key is not at its revision."""
        headers = batched([_condition(view.revision, view.ttl) for view in views])
        *others, (last, commit) = zip(views, headers, strict=True)
        for view, conditions in others:
            await self._broker.send(self._prefix + view.job_id, view.value, headers=conditions)
        revision = await self._publish(self._prefix + last.job_id, last.value, commit)
        return range(revision - len(others), revision + 1) if revision else ()

    async def delete(self, key: str, *, revision: int | None = None) -> bool:
        """Delete a key, unless it is no longer at `revision`: then False. Leaves a marker for `MARKER_TTL`."""
        headers = _condition(revision, MARKER_TTL) | {OPERATION: "DEL"}
        return bool(await self._publish(self._prefix + key, b"", headers))

    async def _publish(self, subject: str, value: bytes, headers: Mapping[str, str]) -> int:
        answer = await self._broker.publish(subject, value, headers)
        if error_code(answer) == ErrorCode.WRONG_LAST_SEQUENCE:
            return 0
        return int(check(answer)["seq"])

    def _entry(self, message: Stored) -> Entry:
        key = subject_of(message).removeprefix(self._prefix)
        return Entry(key, sequence_of(message), _value(message))

    def _followed(self, message: Msg) -> Entry:
        """The entry in a message that a consumer delivered."""
        return Entry(message.subject.removeprefix(self._prefix), position_of(message).sequence, _value(message))


async def _pages(broker: Broker, consumer: dict[str, Any], inbox: Inbox, reply: str) -> AsyncIterator[list[Msg]]:
    number, over, pending = 0, True, int(consumer["num_pending"])
    if not pending:
        yield []
    while True:
        if over:  # before the page is given away, so that the next one is on its way meanwhile
            stream, name = consumer["stream_name"], consumer["name"]
            await request_messages(broker, stream, name, batch=FOLLOWED, wait=PULL_WAIT, inbox=reply)
        page, over, status = await _next(inbox)
        if page:
            last = position_of(page[-1])
            number, pending = number + len(page), last.pending
            if last.number != number:
                raise BrokerUnavailableError("Messages of NATS were lost on their way.")
            yield page
        if status not in {"", EXPIRED}:
            raise BrokerUnavailableError(f"NATS ended a read: {status}.")
        if status or not pending:
            yield []


async def _next(inbox: Inbox) -> tuple[list[Msg], bool, str]:
    if not await inbox.fills(within=PULL_WAIT + ANSWER_MARGIN):
        raise NoAnswerError
    return inbox.take()


def _value(message: Stored) -> bytes | None:
    return message.data if {OPERATION, MARKER}.isdisjoint(message.headers or ()) else None


def _condition(revision: int | None, ttl: float | None) -> dict[str, str]:
    headers = {} if ttl is None else lifetime(ttl)
    return headers if revision is None else headers | {EXPECTED_SEQUENCE: str(revision)}
