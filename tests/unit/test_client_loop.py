"""What a client without async leaves behind when it is closed: nothing."""

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from stint.client.loop import LoopThread


@pytest.fixture
def ended() -> list[str]:
    return []


@pytest.fixture
def loop(ended: list[str]) -> LoopThread:
    async def at_end() -> None:
        ended.append("client")

    return LoopThread(at_end)


def test_streams_that_are_left_are_closed_from_outside_in(
    loop: LoopThread, ended: list[str], caplog: pytest.LogCaptureFixture
) -> None:
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
