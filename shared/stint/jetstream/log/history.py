"""Bulk reads of the EVENTS stream, and the removal of old events."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice, takewhile
from typing import Final, NamedTuple

from nats.aio.msg import Msg

from stint.core.errors import BrokerRefusedError
from stint.core.events import Deleted, Ended, Record, Rejected, Submitted
from stint.core.names.headers import TIME
from stint.core.names.streams import EVENTS, LOGS, PAYLOADS, WORK
from stint.core.names.subjects import (
    EventAddress,
    barrier_subject,
    event_address,
    event_filter,
    is_event,
    is_literal,
    work_subject,
)
from stint.jetstream.log.operations import operations
from stint.jetstream.payloads import JetStreamPayloads
from stint.jetstream.removals import remove_acknowledged
from stint.jetstream.streams.sourcing import SILENCE, silence
from stint.jetstream.streams.stream import ALL, Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import origin_of, records, sequence_of, subject_of, time_of
from stint.jetstream.wire.requests import DeniedError
from stint.ports import Fact, Place, Strays, StreamState

SURVEYED: Final = 200  # jobs per survey. The server answers with at most 1024 messages; a job can be in several queues

_SURVEYED: Final = (Submitted.kind, Ended.kind, Rejected.kind, Deleted.kind)


class FactsPage(NamedTuple):
    """Events of jobs, and of queues and runners; and the sequence of the last message read, which need not be one."""

    sequence: int
    records: Sequence[Record]
    operations: Sequence[Record] = ()


class JetStreamFacts:
    """Reads all events in the order of the log, from a position on, for whoever keeps an index of them.

    No consumer: it could deliver to any subject, and a role that may create one could forge what others write.
    """

    def __init__(self, broker: Broker) -> None:
        self._events = Stream(broker, EVENTS)

    async def state(self) -> StreamState:
        """By which a reader notices that its position is one of another log."""
        return await self._events.state()

    async def pages(self, *, after: int) -> AsyncIterator[FactsPage]:
        """The events behind this sequence up to the newest, from any replica."""
        async for messages in self._events.pages(after=after):
            events = [message for message in messages if is_event(subject_of(message))]
            yield FactsPage(sequence_of(messages[-1]), list(records(events)), list(operations(events)))

    async def lacks(self, *, after: int, through: int) -> bool:
        """Whether a replica has not shown all of the messages behind `after` up to `through`, which may be removed."""
        if after >= through:
            return False
        message = await self._events.get({"seq": after + 1, "next_by_subj": ALL})
        return message is not None and sequence_of(message) <= through


class JetStreamHistory:
    """See `stint.ports.History`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._events = Stream(broker, EVENTS)
        self._work = Stream(broker, WORK)
        self._payloads = Stream(broker, PAYLOADS)
        self._output = Stream(broker, LOGS)

    async def survey(self, job_ids: Collection[str]) -> Mapping[Place, str]:
        facts: defaultdict[Place, dict[str, str]] = defaultdict(dict)
        rest = iter(job_ids)
        while some := list(islice(rest, SURVEYED)):
            patterns = [event_filter(kind, "*", job_id) for job_id in some for kind in _SURVEYED]
            for message in await self._last_of_each(patterns):
                address = _address(message)
                facts[Place(address.token, address.job_id)][address.kind] = (message.headers or {})[TIME]
        return {
            place: found.get(Ended.kind) or found.get(Rejected.kind) or ""
            for place, found in facts.items()
            if Submitted.kind in found and Deleted.kind not in found
        }

    async def _last_of_each(self, patterns: list[str]) -> list[Msg]:
        try:
            return await self._events.last_of_each(patterns)
        except BrokerRefusedError:  # more subjects than one answer can hold, published by strangers
            return [
                message
                for pattern in patterns
                async for messages in self._events.pages(pattern)
                for message in messages
            ]

    async def facts(self, kind: str, *, after: int, since: datetime) -> Sequence[Fact]:
        messages = await self._events.page(event_filter(kind), after=after, since=None if after else since)
        return [Fact(_address(message).job_id, sequence_of(message), time_of(message)) for message in messages]

    async def in_work(self) -> set[Place]:
        """The places whose submission is in a work queue or with a runner."""
        pages = self._work.pages()
        subjects = [origin_of(message).subject async for messages in pages for message in messages]
        # Where a publisher's own headers are cut off, the server's are lost with them.
        addresses = [event_address(subject) for subject in subjects if is_event(subject)]
        places = {Place(address.token, address.job_id) for address in addresses}
        return {place for place in places if is_literal(*place)}

    async def strays(self) -> Strays | None:
        found = await self._work.info()
        # WORK must have received all submissions that its leader knows of, and have heard from EVENTS just now.
        if silence(found) >= SILENCE or any(source["lag"] for source in found["sources"]):
            return None
        stored, in_work = await JetStreamPayloads(self._broker).places(), await self.in_work()
        return Strays(missing=stored - in_work, over=in_work - stored)

    async def is_in_work(self, place: Place) -> bool:
        return await self._place_in_work(place) is not None

    async def is_waiting(self, job_id: str) -> bool:
        for message in await self._last_of_each([event_filter(Submitted.kind, "*", job_id)]):
            if await self._find_in_work(_address(message).token, sequence_of(message)):
                return True
        return False

    async def take_from_work(self, place: Place) -> None:
        if sequence := await self._place_in_work(place):
            await self._work.delete_message(sequence)

    async def _place_in_work(self, place: Place) -> int | None:
        submission = await self._events.last(EventAddress(Submitted.kind, *place).subject)
        return await self._find_in_work(place.token, sequence_of(submission)) if submission else None

    async def _find_in_work(self, token: str, wanted: int) -> int | None:
        """The sequence in WORK of the submission that EVENTS has under the sequence `wanted`.

        Its subject names only the queue, but its order is that of EVENTS. Most that are looked for are long gone.
        """
        low, high = 1, 0
        while not high or low < high:
            middle = (low + high) // 2 if high else low
            message = await self._work.get({"seq": middle, "next_by_subj": work_subject(token)})
            if message is None or (found := origin_of(message).sequence) > wanted:
                if not high:
                    return None
                high = middle
            elif found == wanted:
                return sequence_of(message)
            else:
                low = sequence_of(message) + 1
                high = high or (await self._work.info())["state"]["last_seq"] + 1
        return None

    async def remove_acknowledged(self, token: str) -> None:
        with suppress(DeniedError):  # by a configuration of NATS that an earlier version wrote
            await remove_acknowledged(self._broker, token)

    async def older_than(self, moment: datetime) -> AsyncIterator[str]:
        async for messages in self._events.pages():
            old = [message for message in messages if time_of(message) < moment]
            events = [message for message in old if is_event(subject_of(message))]
            for job_id in dict.fromkeys(_address(message).job_id for message in events):
                if is_literal(job_id):
                    yield job_id
            if len(old) < len(messages):
                return

    async def forget_unnamed(self, before: datetime) -> None:
        await self._events.purge(barrier_subject("*"))
        await _purge_unnamed(self._events, ALL, before)
        for stream in (self._payloads, self._output):
            for pattern in await _queues_of_unnamed(stream):
                await _purge_unnamed(stream, pattern, before)

    async def forget(self, job_id: str, *, before: datetime) -> bool:
        messages = await self._last_of_each([event_filter("*", "*", job_id)])
        if any(time_of(message) >= before for message in messages):
            return False
        through = max((sequence_of(message) for message in messages), default=0)
        for token in _own_queue_last(messages):
            await self._events.purge(event_filter("*", token, job_id), through=through)
        return True


async def _purge_unnamed(stream: Stream, pattern: str, before: datetime) -> None:
    """Remove the first messages while they are old and no filter names them. The stream denies to delete just one."""
    async for messages in stream.pages(pattern):
        old = takewhile(lambda message: time_of(message) < before and _is_unnamed(subject_of(message)), messages)
        if first := list(old):
            await stream.purge(pattern, through=sequence_of(first[-1]))
        if len(first) < len(messages):
            return


async def _queues_of_unnamed(stream: Stream) -> set[str]:
    """Filters over the queues with messages that no filter names: what is older in other queues is not in their way."""
    subjects = [subject.split(".") async for page in stream.counts(ALL) for subject in page if _is_unnamed(subject)]
    return {f"{kind}.{token}.{ALL}" if is_literal(token) else ALL for kind, token, *_ in subjects}


def _is_unnamed(subject: str) -> bool:
    return not is_literal(*subject.split(".")[1:])


def _own_queue_last(messages: Sequence[Msg]) -> list[str]:
    """The queues of a job's events, as filters. The queue of its first submission, the job's own, comes last."""
    addresses = [_address(message) for message in sorted(messages, key=sequence_of)]
    submitted = dict.fromkeys(address.token for address in addresses if address.kind == Submitted.kind)
    others = dict.fromkeys(address.token for address in addresses if address.token not in submitted)
    return [token if is_literal(token) else "*" for token in (*others, *reversed(submitted))]


def _address(message: Msg) -> EventAddress:
    """The parts of the subject, which need not name a queue or a job."""
    return event_address(subject_of(message))
