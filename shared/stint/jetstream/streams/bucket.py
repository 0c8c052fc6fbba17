"""One KV bucket: reading and writing its keys."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final, NamedTuple

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
    ErrorCode,
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
from stint.ports import ViewPut

MARKER_TTL: Final = 60  # seconds for which the marker of a deleted or expired key is kept, for those who follow
OPERATION: Final = "KV-Operation"  # the header of a message that ends a key


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

    def followed(self, message: Msg) -> Entry:
        """The entry in a message that a consumer delivered."""
        return Entry(message.subject.removeprefix(self._prefix), position_of(message).sequence, _value(message))


def _value(message: Stored) -> bytes | None:
    return message.data if {OPERATION, MARKER}.isdisjoint(message.headers or ()) else None


def _condition(revision: int | None, ttl: float | None) -> dict[str, str]:
    headers = {} if ttl is None else lifetime(ttl)
    return headers if revision is None else headers | {EXPECTED_SEQUENCE: str(revision)}
