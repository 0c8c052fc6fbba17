"""The event log on the EVENTS stream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final, TypeVar
from uuid import uuid4

from stint.core.codec import cloudevents, encode
from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.core.events import PUBLISHED, AnyEvent, Record, Submitted
from stint.core.job import Job, fold
from stint.core.names.headers import EXPECTED_SUBJECT
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import (
    EventAddress,
    bar_kind,
    event_address,
    event_filter,
    is_literal,
    live_filter,
    names_job,
)
from stint.jetstream.signatures import EventSigner
from stint.jetstream.streams.consistency import ANSWER, UNPROVEN, across_elections, current_subjects
from stint.jetstream.streams.stream import Stream, subjects_of
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import (
    EXPECTED_SEQUENCE,
    NOT_FIRST,
    ErrorCode,
    NoAnswerError,
    RawMessage,
    check,
    error_code,
    records,
    sequence_of,
)
from stint.ports import News, Outcome

T = TypeVar("T")

READS: Final = 3  # attempts to read a message on which two answers disagree


class JetStreamEventLog:
    """See `stint.ports.EventLog`."""

    def __init__(self, broker: Broker, signer: EventSigner | None = None, *, as_cloudevents: bool = False) -> None:
        """`signer` signs what publishers may write too; `as_cloudevents` gives events the headers of CloudEvents."""
        self._broker = broker
        self._as_cloudevents = as_cloudevents
        self._signer = signer or EventSigner()
        self._events = Stream(broker, EVENTS)

    async def append(
        self, token: str, job_id: str, *events: AnyEvent, after: int | None = None, unless: str = ""
    ) -> Outcome:
        headers = {EXPECTED_SEQUENCE: str(after or 0)}
        conditional = after is not None or bool(unless)
        if conditional:
            headers[EXPECTED_SUBJECT] = event_filter(unless or "*", token, job_id)

        async def once() -> Outcome:
            # One after the other: publishers may take all places for atomic batches, and fill the disk with begun ones.
            condition = headers
            for event in events:
                answer = await self._publish(EventAddress(event.kind, token, job_id), event, condition)
                if error_code(answer) in NOT_FIRST:
                    by_other_facts = conditional and error_code(answer) == ErrorCode.WRONG_LAST_SEQUENCE
                    sequence = await self._own(token, job_id, event, by_other_facts=by_other_facts)
                    if sequence is None:
                        return Outcome.LOST
                else:
                    sequence = check(answer)["seq"]
                condition = {**headers, EXPECTED_SEQUENCE: str(sequence)}
            return Outcome.WON

        try:
            return await across_elections(self._broker, once)
        except NoAnswerError:
            with suppress(BrokerUnavailableError):  # they may still be in transit: only stored events prove anything
                return Outcome.LOST if await self._own(token, job_id, events[-1]) is None else Outcome.WON
            return Outcome.UNKNOWN

    async def bar(self, token: str, job_id: str, *, after: int) -> bool:
        subject = EventAddress(bar_kind(uuid4().hex), token, job_id).subject
        headers = {EXPECTED_SEQUENCE: str(after), EXPECTED_SUBJECT: event_filter("*", token, job_id)}
        answer = await across_elections(self._broker, lambda: self._broker.publish(subject, b"", headers, ANSWER))
        return "error" not in check(answer, *NOT_FIRST)

    async def _publish(self, address: EventAddress, event: AnyEvent, condition: Mapping[str, str]) -> dict[str, Any]:
        subject, body = address.subject, encode(event)
        signed = self._signer.headers(subject, body) if isinstance(event, PUBLISHED) else {}
        mapped = cloudevents(address, event) if self._as_cloudevents else {}
        return await self._broker.publish(subject, body, {**signed, **mapped, **condition}, ANSWER)

    async def _own(self, token: str, job_id: str, event: AnyEvent, *, by_other_facts: bool = False) -> int | None:
        """The sequence of our event, known by its id, None if another writer was first.

        If the server refused because other events came first (`by_other_facts`), ours being absent means just that.
        Otherwise that raises NoAnswerError: ours or another writer's is still being replicated.
        """
        subject = EventAddress(event.kind, token, job_id).subject
        message = await self._found(lambda: self._last(subject), subject)
        if message is None:
            if by_other_facts:
                return None
            raise NoAnswerError
        stored = next(records([message]), None)
        is_ours = stored is not None and stored.event is not None and stored.event.event_id == event.event_id
        return sequence_of(message) if is_ours else None

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
        subjects = event_filter("*", "*", job_id)
        job: Job | None = None
        try:
            job = fold(records(await self._events.last_of_each([subjects])))
        except NoAnswerError:  # the replica may be frozen
            pass
        except BrokerRefusedError:  # more subjects than one answer can hold, published by strangers, as in many queues
            if known := await self._first_submission(job_id):
                async for messages in self._events.pages(event_filter("*", known.token, job_id)):
                    job = fold(records(messages), job)
        if job is not None and job.sequence >= at_least:
            return job
        # A lagging replica may not have what was acknowledged a moment ago.
        submissions = event_filter(Submitted.kind, "*", job_id)
        first = await self._found(lambda: self._first_submission(job_id), submissions, counts=names_job)
        if first is None:
            return None
        own = event_filter("*", first.token, job_id)
        job = await self._read(subjects_of(await self._events.info({"subjects_filter": own}, ANSWER)))
        if job is None or job.sequence < at_least:
            job = await self._read(await current_subjects(self._events, own))
        return job

    async def current(self, job_id: str) -> Job | None:
        job = await self.load(job_id)
        if job is None or not self._broker.several:
            return job
        try:
            newest = await self._last(event_filter("*", job.token, job_id))
        except BrokerUnavailableError:
            return job
        sequence = sequence_of(newest) if newest else 0
        return job if job.sequence >= sequence else await self.load(job_id, at_least=sequence)

    async def _found(
        self, read: Callable[[], Awaitable[T | None]], subject: str, counts: Callable[[str], bool] = lambda _: True
    ) -> T | None:
        """The result of `read` on these subjects; None only if it is proven that there is nothing that counts."""
        for _ in range(READS):
            if (found := await read()) is not None:
                return found
            if not any(map(counts, await current_subjects(self._events, subject))):
                return None
        raise BrokerUnavailableError(UNPROVEN)

    async def _first_submission(self, job_id: str) -> Record | None:
        """The first submission, which determines the job's queue. Subjects that name no queue are skipped."""
        async for message in self._events.each(event_filter(Submitted.kind, "*", job_id), ANSWER):
            if record := next(records([message]), None):
                return record
        return None

    async def _read(self, subjects: Collection[str]) -> Job | None:
        """The job of these events of its queue, from the leader. None without its submission.

        Raises BrokerUnavailableError if one is not there: while two servers believe that they lead, either may answer.
        """
        asked = [subject for subject in subjects if is_literal(event_address(subject).kind)]
        found = await asyncio.gather(*(self._last(subject) for subject in asked))
        messages = [message for message in found if message]
        if len(messages) < len(found):
            raise BrokerUnavailableError(UNPROVEN)
        return fold(records(messages))

    async def _last(self, subject: str) -> RawMessage | None:
        return await self._events.last(subject, ANSWER)

    async def job_ids(self) -> AsyncIterator[str]:
        async for messages in self._events.pages(event_filter(Submitted.kind)):
            for record in records(messages):
                yield record.job_id

    def follow(self, job_id: str) -> AbstractAsyncContextManager[News]:
        return self._broker.news_of(job_id)

    def follow_kinds(self, token: str, job_id: str, *kinds: str) -> AbstractAsyncContextManager[News]:
        return self._broker.news_on(*(live_filter(kind, token, job_id) for kind in kinds))
