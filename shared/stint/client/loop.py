"""An event loop in a thread of its own, for callers without async."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

T = TypeVar("T")

_DONE: Final = object()
CLOSED: Final = "The client is closed."


class LoopThread:
    """The loop. Several threads may use it."""

    def __init__(self, at_end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`at_end` is done in the loop when it is closed."""
        # The runner ends what is left at the close. Without a factory its loop would be this thread's loop too.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._at_end = at_end
        self._streams: set[AsyncGenerator[Any, None]] = set()
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
        """The items, each of which is waited for when it is asked for."""

        async def following() -> Any:
            return await anext(items, _DONE)

        self._streams.add(items)
        try:
            while (item := self.run(following())) is not _DONE:
                yield item
        finally:
            self._streams.discard(items)
            if not self._closed:
                self.run(_closed(items))

    def close(self) -> None:
        """End all that still runs, and the thread. Safe to repeat."""
        with self._closing:
            first, self._closed = not self._closed, True
        if first:
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        if first:
            self._runner.close()

    async def _main(self) -> None:
        """Streams that are left are closed from outside in: what is inside one cannot be closed at the same time."""
        await self._over.wait()
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for items in list(self._streams):
            await items.aclose()
        await self._at_end()


async def _closed(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()
