"""A job that was published, and what becomes of it."""

import asyncio
import secrets
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from stint.client.job import PATIENCE
from stint.client.results import Fact, JobEvent, JobResult, Output, read
from stint.core.codec import encode, to_record
from stint.core.errors import BrokerUnavailableError, StintError
from stint.core.events import EVENT_TYPES, Deleted, Ended, KillRequested, Record, Rejected, Submitted
from stint.core.job import Job, fold
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import EventAddress, live_filter, tail_subject
from stint.core.output.chain import Chain, Chunk
from stint.core.view import view
from stint.jetstream import Broker, EventSigner
from stint.jetstream.output import chunk_in
from stint.jetstream.wire.protocol import EXPECTED_SEQUENCE, ErrorCode, check, records
from stint.jetstream.wire.requests import DeniedError
from stint.process.waiting import any_of
from stint.publisher.output import HeardOutput, OutputReader

LOOK: Final = 5.0
"""Seconds after which the log is asked although nothing was heard: what is only heard can be missed."""
SOON: Final = 0.01
"""Seconds, times four for each attempt, until an event that was heard of is asked for again: a server of a cluster may
lag behind the one that told of it. What would take longer than `LOOK` was invented."""
GAP: Final = 0.02
"""Seconds between two looks at least: anybody may tell of events and output, as often as they like."""
LOOKS: Final = 10
"""Attempts to read the log while NATS is unavailable."""
AGAIN: Final = 1.0
"""Seconds until output that is missing is asked for again: the APIs may be busy."""
MISSED: Final = 15.0
"""Seconds after which output of a job that has ended counts as missed, if nothing more of it came. An API may start
in this time."""
_LAST: Final = (Ended.kind, Rejected.kind, Deleted.kind)
_TOLD: Final = tuple(kind for kind in EVENT_TYPES if kind != Submitted.kind)


class JobDeletedError(StintError):
    """The job was deleted: it never ran, or nothing is kept of it."""


class PublishedJob:
    """A job of this publisher."""

    def __init__(
        self, broker: Broker, signer: EventSigner, queue: str, job_id: str, submitted: Submitted | None = None
    ) -> None:
        """`submitted` is known to whoever publishes it. NATS lets no publisher read it: it holds the job's ticket."""
        self.id, self.queue = job_id, queue
        self._broker, self._signer, self._token = broker, signer, queue_token(queue)
        body, time = (encode(submitted), submitted.at) if submitted else (b"", "")
        own = to_record(self._address(Submitted.kind), body, sequence=0, time=time)
        self._records: dict[str, Record] = {Submitted.kind: own}
        self._output = HeardOutput(broker, self._token, job_id)
        self._hinted: set[str] = set()
        self._pause = SOON
        self._news = asyncio.Event()
        self._heard = AsyncExitStack()

    @asynccontextmanager
    async def heard(self) -> AsyncIterator[None]:
        """Hear the job's events and output, from before the block until the block fails, or the job has ended.

        Or until nobody has this object any more: NATS closes a connection with more than 1000 subscriptions.
        """
        async with AsyncExitStack() as heard:
            for kind in _TOLD:
                event = live_filter(kind, self._token, self.id)
                await heard.enter_async_context(self._broker.subscribe(event, cb=_weak(self._on_event)))
            tail = tail_subject(self._token, self.id)
            await heard.enter_async_context(self._broker.subscribe(tail, cb=_weak(self._on_output)))
            yield
            self._heard = heard.pop_all()
            weakref.finalize(self, _close, self._heard, asyncio.get_running_loop()).atexit = False

    async def stream(self) -> AsyncGenerator[JobEvent, None]:
        """What happens to the job, and its output as it comes, from its submission. The last item is its result.

        Raises:
            JobDeletedError: the job was deleted.
            OutputMissedError: some of its output was missed, and no API could read it again.
            DeniedError: this publisher may not read the queue's jobs.
        """
        told: set[str] = set()
        output, heard, deadline, looked_at = OutputReader(self._output), False, 0.0, 0.0
        while True:
            await asyncio.sleep(looked_at + GAP - _now())
            looked_at = _now()
            news, job = self._news, await self._current(quiet=not heard)
            recorded = Chain.recorded(job.fact(Ended))
            while chunk := await output.next(total=recorded.chunks):
                yield _output(chunk)
                deadline = 0.0
            if Deleted.kind in job.facts:
                await self._heard.aclose()
                raise JobDeletedError
            deadline = deadline or _now() + MISSED
            if job.terminal and output.chain != recorded and _now() < deadline:
                heard = await any_of(news, within=AGAIN)
                continue
            for kind in [kind for kind in job.facts if kind not in told and job.facts[kind].time]:
                told.add(kind)
                yield _fact(job, kind)
            if job.terminal:
                await self._heard.aclose()
                if output.chain != recorded:
                    raise output.missed()
                yield msgspec.structs.replace(read(msgspec.to_builtins(view(job)), JobResult), tail=output.tail)
                return
            heard, deadline = await self._hears(news, within=AGAIN if output.lacks else LOOK), 0.0

    async def wait(self, timeout: float | None = None) -> JobResult:  # noqa: ASYNC109 - as `JobHandle.wait`
        """The job's result, once it has ended.

        Raises what `stream` does, and TimeoutError if it had not ended after `timeout` seconds. It continues.
        """
        async with asyncio.timeout(timeout), aclosing(self.stream()) as items:
            async for item in items:
                if isinstance(item, JobResult):
                    return item
        raise AssertionError("A stream ends with a result, or raises.")

    async def kill(self) -> None:
        """Request a kill. It is safe to repeat.

        Raises BrokerUnavailableError if NATS cannot be reached, and BrokerRefusedError if it refuses.
        """
        event = KillRequested(
            event_id=secrets.token_hex(16),
            at=datetime.now(UTC).isoformat(),
            by="publisher",
            by_nats_user=self._signer.nkey,
        )
        subject, body = self._address(KillRequested.kind).subject, encode(event)
        headers = {**self._signer.headers(subject, body), EXPECTED_SEQUENCE: "0"}
        # If the subject has a message already, a kill was requested before.
        check(await self._broker.publish(subject, body, headers), ErrorCode.WRONG_LAST_SEQUENCE)

    def _address(self, kind: str) -> EventAddress:
        return EventAddress(kind, self._token, self.id)

    def _on_event(self, message: Msg) -> None:
        """Only a hint, because it could have been missed or invented: the log decides."""
        self._hinted.update(kind for kind in _TOLD if message.subject == live_filter(kind, self._token, self.id))
        self._wake()

    def _on_output(self, message: Msg) -> None:
        self._output.hear(chunk_in(message))
        self._wake()

    def _wake(self) -> None:
        this, self._news = self._news, asyncio.Event()
        this.set()

    async def _hears(self, news: asyncio.Event, *, within: float) -> bool:
        """Wait for news, or until the log is to be asked again. False if anything may have been missed."""
        if await any_of(news, within=min(self._pause, within) if self._hinted else within):
            return True
        self._pause *= 4
        return bool(self._hinted)

    async def _current(self, *, quiet: bool) -> Job:
        """As `_look`. A broken connection is waited for. Raises BrokerClosedError if it was closed for good."""
        for _ in range(LOOKS):
            try:
                return await self._look(quiet=quiet)
            except DeniedError:
                raise
            except BrokerUnavailableError:
                self._broker.check_open()
                await self._broker.connected_within(PATIENCE)
        return await self._look(quiet=quiet)

    async def _look(self, *, quiet: bool) -> Job:
        """The job as the log has it. If nothing was heard (`quiet`), all that may have been missed is asked for."""
        hinted, self._hinted = self._hinted, set()
        await self._read(*hinted, *_LAST)
        lacking = hinted - self._records.keys()
        if not lacking:
            self._pause = SOON
        elif self._pause < LOOK:
            self._hinted |= lacking
        if quiet or self._records.keys() & set(_LAST):
            await self._read(*_TOLD)
            await self._output.hear_last()
        job = fold(self._records.values())
        if job is None:
            raise AssertionError("A published job has been submitted.")
        return job

    async def _read(self, *kinds: str) -> None:
        for kind in set(kinds) - self._records.keys():
            if message := await self._broker.direct_last(EVENTS, self._address(kind).subject):
                self._records |= {record.kind: record for record in records([message])}


def _weak(take: Callable[[Msg], None]) -> Callable[[Msg], Awaitable[None]]:
    """A callback that keeps no object alive for its method."""
    this = weakref.WeakMethod(take)

    async def call(message: Msg) -> None:
        if method := this():
            method(message)

    return call


def _close(heard: AsyncExitStack, loop: asyncio.AbstractEventLoop) -> None:
    """Hear no more, from any thread."""
    if not loop.is_closed():
        asyncio.run_coroutine_threadsafe(heard.aclose(), loop)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _fact(job: Job, kind: str) -> Fact:
    record = job.facts[kind]
    own: dict[str, Any] = msgspec.to_builtins(record.event) if record.event else {}
    names = {"output_chunks": own.get("chunks", 0), "status": own.get("status", job.state)}
    return read(own | names | {"kind": kind, "at": record.time, "sequence": record.sequence}, Fact)


def _output(chunk: Chunk) -> Output:
    at = datetime.fromisoformat(chunk.time) if chunk.time else None
    return Output(
        data=chunk.data, stream=chunk.stream, number=chunk.number, offset=chunk.offset, at=at, line=chunk.line
    )
