"""The client without async: the same calls, which wait. An event loop in a thread of its own makes them."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

from stint.client.client import PATIENCE, Client
from stint.client.job import JobHandle
from stint.client.options import Endpoints

T = TypeVar("T")

_DONE: Final = object()
CLOSED: Final = "The client is closed."

A = TypeVar("A")
P = ParamSpec("P")


class _Stream:
    """An async generator in the loop. One thing at a time is asked of it."""

    def __init__(self, items: AsyncGenerator[Any, None]) -> None:
        self._items, self._busy = items, asyncio.Lock()
        self._asking: asyncio.Task[Any] | None = None
        self.closing: asyncio.Task[None] | None = None

    async def next(self) -> Any:
        async with self._busy:
            self._asking = asyncio.current_task()
            return await anext(self._items, _DONE)

    async def close(self) -> None:
        """Nobody waits for an item any more: an interrupt may have come before whoever did could cancel that."""
        if self._asking and not self._asking.cancelling():
            self._asking.cancel()
        async with self._busy:
            await self._items.aclose()


class LoopThread:
    """The loop. Several threads may use it."""

    def __init__(self, at_end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`at_end` is done in the loop when it is closed."""
        # The runner ends what is left at the close. Without a factory its loop would be this thread's loop too.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._at_end = at_end
        self._streams: set[_Stream] = set()
        self._over = asyncio.Event()
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._runner.run, args=(self._main(),), name="stint-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of the work. An interrupted wait cancels it. Raises RuntimeError if the loop is closed."""
        with self._closing:
            if self._closed:
                work.close()
                raise RuntimeError(CLOSED)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def each(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """The items, each of which is waited for when it is asked for. Who leaves early does not wait for the close."""
        stream = _Stream(items)
        self._streams.add(stream)
        try:
            while (item := self.run(stream.next())) is not _DONE:
                yield item
        finally:
            # The collector may end this generator in any thread, the loop's own too: it must not wait for anything.
            with suppress(RuntimeError):  # the loop is closed, and with it the stream
                self._loop.call_soon_threadsafe(self._leave, stream)

    def close(self) -> None:
        """End all that still runs, and the thread. Safe to repeat."""
        with self._closing:
            first, self._closed = not self._closed, True
        if first:
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        if first:
            self._runner.close()

    def _leave(self, stream: _Stream) -> None:
        if not self._closed:  # otherwise `_main` closes it
            stream.closing = asyncio.create_task(stream.close())
            stream.closing.add_done_callback(lambda _: self._streams.discard(stream))

    async def _main(self) -> None:
        """Streams that are left are closed from outside in: what is inside one cannot be closed at the same time."""
        await self._over.wait()
        running = asyncio.all_tasks() - {asyncio.current_task(), *(stream.closing for stream in self._streams)}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for stream in list(self._streams):
            await stream.close()
        await self._at_end()


class _Sync(Generic[A]):
    def __init__(self, loop: LoopThread, wrapped: A) -> None:
        self._loop, self._wrapped = loop, wrapped


def _waits(method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[_Sync[A], P], T]:
    """The same method, which waits for its result."""

    @wraps(method)
    def call(self: _Sync[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(method(self._wrapped, *args, **kwargs))

    return call


def _iterates(
    method: Callable[Concatenate[A, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[_Sync[A], P], Iterator[T]]:
    """The same method, which waits for each item when it is asked for."""

    @wraps(method)
    def call(self: _Sync[A], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._loop.each(method(self._wrapped, *args, **kwargs))

    return call


class SyncJob(_Sync[JobHandle]):
    """See `stint.client.JobHandle`: the same methods, which wait. What is an async generator there is an iterator."""

    @property
    def id(self) -> str:
        """The job's id."""
        return self._wrapped.id

    info = _waits(JobHandle.info)
    stream = _iterates(JobHandle.stream)
    wait = _waits(JobHandle.wait)
    output = _waits(JobHandle.output)
    copy_output = _waits(JobHandle.copy_output)
    receipt = _waits(JobHandle.receipt)
    kill = _waits(JobHandle.kill)
    delete = _waits(JobHandle.delete)
    release = _waits(JobHandle.release)

    def __repr__(self) -> str:
        return f"SyncJob({self.id!r})"


def _waits_for_job(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, JobHandle]],
) -> Callable[Concatenate[_Sync[Client], P], SyncJob]:
    """The same method, whose job is one without async too."""

    @wraps(method)
    def call(self: _Sync[Client], /, *args: P.args, **kwargs: P.kwargs) -> SyncJob:
        return SyncJob(self._loop, self._loop.run(method(self._wrapped, *args, **kwargs)))

    return call


class SyncClient(_Sync[Client]):
    """See `stint.client.Client`, and `SyncJob`. Several threads may use it. Use it with `with`."""

    def __init__(self, client: Client) -> None:
        """The calls of this client, which nobody else uses. Usually `connect` or `from_env` makes it."""
        super().__init__(LoopThread(client.__aexit__), client)

    @classmethod
    def connect(cls, where: Endpoints, *, patience: float = PATIENCE) -> Self:
        """See `Client.connect`."""
        return cls(Client.connect(where, patience=patience))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, patience: float = PATIENCE) -> Self:
        """See `Client.from_env`."""
        return cls(Client.from_env(environ, patience=patience))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.close()

    def job(self, job_id: str) -> SyncJob:
        """The job with this id. Nothing is asked yet."""
        return SyncJob(self._loop, self._wrapped.job(job_id))

    submit = _waits_for_job(Client.submit)
    rerun = _waits_for_job(Client.rerun)
    jobs = _iterates(Client.jobs)
    counts = _waits(Client.counts)
    queues = _waits(Client.queues)
    queue = _waits(Client.queue)
    pause = _waits(Client.pause)
    resume = _waits(Client.resume)
    runners = _waits(Client.runners)
    drain = _waits(Client.drain)
    audit = _iterates(Client.audit)
    lineage = _iterates(Client.lineage)
    receipt_keys = _waits(Client.receipt_keys)
    events = _iterates(Client.events)
