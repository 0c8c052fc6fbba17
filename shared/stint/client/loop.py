"""An event loop in a thread of its own, for callers without async."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Final, TypeVar

T = TypeVar("T")

_DONE: Final = object()
CLOSED: Final = "The client is closed."


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
