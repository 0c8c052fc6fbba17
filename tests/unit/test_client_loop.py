"""What a client without async leaves behind when it is closed: nothing."""

import asyncio
import concurrent.futures
import gc
import signal
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import pytest

from stint.client.sync import LoopThread


@pytest.fixture
def ended() -> list[str]:
    return []


@pytest.fixture
def loop(ended: list[str]) -> LoopThread:
    async def at_end() -> None:
        ended.append("client")

    return LoopThread(at_end)


def test_streams_that_are_left_are_closed(loop: LoopThread, ended: list[str], caplog: pytest.LogCaptureFixture) -> None:
    async def inner() -> AsyncGenerator[int, None]:
        try:
            for number in range(3):
                yield number
        finally:
            await asyncio.sleep(0)
            ended.append("inner")

    async def outer() -> AsyncGenerator[int, None]:
        try:
            async with aclosing(inner()) as items:
                async for number in items:
                    yield number
        finally:
            ended.append("outer")

    left, never_begun = loop.each(outer()), loop.each(outer())
    assert next(left) == 0
    loop.close()
    assert ended == ["inner", "outer", "client"]
    for items in (left, never_begun):
        with pytest.raises(RuntimeError, match="closed"):
            next(items)
    assert not caplog.records


def test_it_may_be_closed_again_and_says_that_it_is(loop: LoopThread, ended: list[str]) -> None:
    async def work() -> int:
        return 3

    assert loop.run(work()) == 3
    loop.close()
    loop.close()
    assert ended == ["client"]
    with pytest.raises(RuntimeError, match="The client is closed"):
        loop.run(work())  # and Python does not warn that the work was never awaited


def test_a_thread_that_waits_is_told(loop: LoopThread) -> None:
    begun, told = threading.Event(), list[type[BaseException]]()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    def wait() -> None:
        try:
            loop.run(work())
        except concurrent.futures.CancelledError as error:
            told.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    assert begun.wait(10)
    loop.close()
    thread.join(10)
    assert told == [concurrent.futures.CancelledError]


@pytest.mark.parametrize("where", ["the loop's own thread", "a thread that holds the lock"])
def test_an_iterator_may_be_collected_anywhere(loop: LoopThread, ended: list[str], where: str) -> None:
    class Holder:
        """Refers to itself, as the traceback of an error that was caught does: only the collector ends its iterator."""

        def __init__(self, items: Iterator[int]) -> None:
            self.items, self.itself = items, self

    closed = threading.Event()

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            closed.set()

    async def collect() -> None:
        gc.collect()

    def collect_with_the_lock() -> None:
        with loop._closing:  # noqa: SLF001 - the collector may run at any line
            gc.collect()

    gc.disable()
    try:
        next(Holder(loop.each(numbers())).items)
        work = collect_with_the_lock if "lock" in where else lambda: loop.run(collect())
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(10)
    finally:
        gc.enable()
    assert not thread.is_alive()
    assert closed.wait(10)
    loop.close()
    assert ended == ["client"]


def test_an_interrupted_iteration_raises_the_interrupt(loop: LoopThread) -> None:
    waiting, told, closed, main = threading.Event(), threading.Event(), threading.Event(), threading.get_ident()

    async def endless() -> AsyncGenerator[int, None]:
        try:
            waiting.set()
            await asyncio.Event().wait()
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.set()

    def interrupted(*_: object) -> None:
        if not told.is_set():
            told.set()
            raise KeyboardInterrupt

    def interrupt() -> None:
        waiting.wait(10)
        while not told.wait(0.05):  # Python misses a signal that comes while it goes to sleep, until the next one
            signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, interrupted)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            next(loop.each(endless()))
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert closed.wait(10)
    loop.close()
