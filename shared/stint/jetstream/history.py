"""Bulk reads of the EVENTS stream, and the removal of old events."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from nats.aio.msg import Msg

from stint.core.errors import BrokerRefusedError
from stint.core.events import Deleted, Ended, Rejected, Submitted
from stint.core.subjects import EVENTS, WORK, EventAddress, barrier_subject, event_address, event_filter, work_subject
from stint.jetstream.broker import Broker
from stint.jetstream.consistency import SILENCE, silence
from stint.jetstream.protocol import TIME, origin_of, sequence_of, subject_of, time_of
from stint.jetstream.stream import Stream, is_literal
from stint.ports import Place, Strays

SURVEY_SUBJECTS: Final = 800
"""Subjects per survey; the server answers with at most 1024 messages."""
SURVEY_BYTES: Final = 256 * 1024
"""Size of the subjects in a survey: a quarter of what a NATS server accepts by default."""

_ENDS: Final = (Ended.kind, Rejected.kind, Deleted.kind)
_SURVEYED: Final = (Submitted.kind, *_ENDS)


class JetStreamHistory:
    """See `stint.ports.History`."""

    def __init__(self, broker: Broker) -> None:
        self._events = Stream(broker, EVENTS)
        self._work = Stream(broker, WORK)

    async def survey(self, places: Iterable[Place]) -> Mapping[Place, str]:
        facts: defaultdict[Place, dict[str, str]] = defaultdict(dict)
        for subjects in _batches(places):
            for message in await self._events.last_of_each(subjects):
                address = _address(message)
                facts[Place(address.token, address.job_id)][address.kind] = (message.headers or {})[TIME]
        return {
            place: found.get(Ended.kind) or found.get(Rejected.kind) or ""
            for place, found in facts.items()
            if Submitted.kind in found and Deleted.kind not in found
        }

    async def submitted(self) -> set[Place]:
        return _places(await self._with_fact(Submitted.kind))

    async def in_work(self) -> frozenset[str]:
        return frozenset([place.job_id for place in _places(await self._in_work())])

    async def strays(self) -> Strays | None:
        submitted = await self._with_fact(Submitted.kind)
        if not await self._work_is_up_to_date():
            return None
        # In this order, because a runner appends the end before its ack: a healthy job is found in one of the two.
        in_work = await self._in_work()
        over: set[str] = set()
        if submitted or in_work:
            for kind in _ENDS:
                over |= await self._with_fact(kind)
        return Strays(missing=_places(submitted - in_work - over), over=_places(in_work & over))

    async def _work_is_up_to_date(self) -> bool:
        """Whether WORK has received all submissions that its leader knows of, and has heard from EVENTS just now."""
        found = await self._work.info()
        return not any(source["lag"] for source in found["sources"]) and silence(found) < SILENCE

    async def is_in_work(self, place: Place) -> bool:
        return await self._find_in_work(place) is not None

    async def take_from_work(self, place: Place) -> None:
        if sequence := await self._find_in_work(place):
            await self._work.delete_message(sequence)

    async def _find_in_work(self, place: Place) -> int | None:
        """The sequence of a job's submission in WORK: its subject names only the queue, its order is that of EVENTS."""
        submission = await self._events.last(EventAddress(Submitted.kind, *place).subject)
        if submission is None:
            return None
        wanted, queue = sequence_of(submission), work_subject(place.token)
        state = (await self._work.info())["state"]
        low, high = state["first_seq"], state["last_seq"] + 1
        while low < high:
            middle = (low + high) // 2
            message = await self._work.get({"seq": middle, "next_by_subj": queue})
            if message is None or (found := origin_of(message).sequence) > wanted:
                high = middle
            elif found < wanted:
                low = sequence_of(message) + 1
            else:
                return sequence_of(message)
        return None

    async def older_than(self, moment: datetime) -> AsyncIterator[str]:
        async for messages in self._events.pages(event_filter()):
            old = [message for message in messages if time_of(message) < moment]
            for job_id in dict.fromkeys(_address(message).job_id for message in old):
                if is_literal(job_id):
                    yield job_id
            if len(old) < len(messages):
                return

    async def forget_barriers(self) -> None:
        await self._events.purge(barrier_subject("*"))

    async def forget(self, job_id: str, *, before: datetime) -> bool:
        messages = await self._facts(job_id)
        if any(time_of(message) >= before for message in messages):
            return False
        through = max((sequence_of(message) for message in messages), default=0)
        for token in _own_queue_last(messages):
            await self._events.purge(event_filter("*", token, job_id), through=through)
        return True

    async def _with_fact(self, kind: str) -> set[str]:
        """`<job>.<queue>` of each event of this kind. Text takes a third of the time that `Place` objects would."""
        pattern = event_filter(kind)
        around = slice(pattern.index("*"), -len(kind) - 1)
        return {subject[around] async for subject in self._events.subjects(pattern)}

    async def _in_work(self) -> set[str]:
        """`<job>.<queue>` of each submission in WORK."""
        start, end = event_filter(Submitted.kind).index("*"), -len(Submitted.kind) - 1
        pages = self._work.pages(work_subject("*"))
        return {origin_of(message).subject[start:end] async for messages in pages for message in messages}

    async def _facts(self, job_id: str) -> list[Msg]:
        subject = event_filter("*", "*", job_id)
        try:
            return await self._events.last_of_each([subject])
        except BrokerRefusedError:  # more subjects than one answer can hold, published by strangers
            return [message async for messages in self._events.pages(subject) for message in messages]


def _places(held: Iterable[str]) -> set[Place]:
    places = (Place(token, job_id) for job_id, token in (text.split(".") for text in held if text))
    return {place for place in places if is_literal(*place)}


def _batches(places: Iterable[Place]) -> Iterator[list[str]]:
    """The subjects of these places, in batches that fit into one request and one answer."""
    batch: list[str] = []
    size = 0
    for place in places:
        subjects = [EventAddress(kind, *place).subject for kind in _SURVEYED]
        added = sum(map(len, subjects))
        if batch and (len(batch) + len(subjects) > SURVEY_SUBJECTS or size + added > SURVEY_BYTES):
            yield batch
            batch, size = [], 0
        batch += subjects
        size += added
    if batch:
        yield batch


def _own_queue_last(messages: Sequence[Msg]) -> list[str]:
    """The queues of a job's events, as filters. The queue of its first submission, the job's own, comes last."""
    addresses = [_address(message) for message in sorted(messages, key=sequence_of)]
    submitted = dict.fromkeys(address.token for address in addresses if address.kind == Submitted.kind)
    others = dict.fromkeys(address.token for address in addresses if address.token not in submitted)
    return [token if is_literal(token) else "*" for token in (*others, *reversed(submitted))]


def _address(message: Msg) -> EventAddress:
    """The parts of the subject, which need not name a queue or a job."""
    return event_address(subject_of(message))
