"""A stream under watch, with a check that a test scripts."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from http import HTTPStatus

import pytest
from starlette.types import Message

from stint.core.errors import VaultUnavailableError
from stint_api.errors import RefusalError
from stint_api.routes import answers
from stint_api.routes.answers import unless_refused, while_allowed
from stint_api.web import streaming
from stint_api.web.streaming import Stream

AWAY = VaultUnavailableError("Vault at http://10.0.0.5:8200 is not reachable.")
REFUSAL = RefusalError(HTTPStatus.FORBIDDEN, "It may not.")


class Checks:
    """What each check comes to, one after another: an error, or None. Behind the last one nothing is checked."""

    def __init__(self, *results: Exception | None) -> None:
        self._results: Iterator[Exception | None] = iter(results)
        self.used_up = asyncio.Event()

    async def __call__(self) -> None:
        try:
            result = next(self._results)
        except StopIteration:
            self.used_up.set()
            await asyncio.Event().wait()
            return
        if result is not None:
            raise result


async def until(over: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """A stream that has one piece, and waits for its end."""
    yield b"piece"
    await over.wait()


async def endless(over: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """A stream that always has more, whether it is over or not."""
    while True:
        yield b"over" if over.is_set() else b"piece"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "PERIOD", 0.001)


async def test_a_stream_goes_on_while_nobody_can_say_and_ends_with_the_refusal() -> None:
    checks = Checks(None, AWAY, AWAY, None, REFUSAL)
    refused = asyncio.Event()
    first, last = [piece async for piece in while_allowed(until(refused), checks, asyncio.Event(), refused)]
    assert (first, last) == (
        b"piece",
        b'event: refused\ndata: {"status":"Permission Denied.","error":"It may not."}\n\n',
    )


async def test_nothing_more_is_sent_once_the_caller_was_refused() -> None:
    """A slow reader has more to come: it gets no more of it."""
    refused = asyncio.Event()
    stream = while_allowed(endless(refused), Checks(REFUSAL), asyncio.Event(), refused)
    told = [await anext(stream)]
    async with asyncio.timeout(10):
        while not told[-1].startswith(b"event: refused"):
            told.append(await anext(stream))
            await asyncio.sleep(0)
    assert set(told[:-1]) == {b"piece"}
    assert [piece async for piece in stream] == []


async def test_a_server_that_ends_is_no_refusal_and_waits_for_no_check() -> None:
    closing, checks = asyncio.Event(), Checks()
    stream = while_allowed(until(closing), checks, closing, asyncio.Event())
    assert await anext(stream) == b"piece"
    await checks.used_up.wait()
    rest = asyncio.create_task(_rest(stream))
    closing.set()
    async with asyncio.timeout(10):
        assert await rest == []


async def test_a_stream_that_nobody_watches_any_more_ends() -> None:
    refused = asyncio.Event()
    stream = while_allowed(until(refused), Checks(ArithmeticError("a fault of ours")), asyncio.Event(), refused)
    async with asyncio.timeout(10):
        with pytest.raises(ArithmeticError):
            await _rest(stream)


async def test_an_answer_breaks_off_once_its_caller_was_refused() -> None:
    refused = asyncio.Event()
    answer = unless_refused(endless(refused), Checks(AWAY, None, REFUSAL), asyncio.Event(), refused)
    async with asyncio.timeout(10):
        with pytest.raises(RefusalError, match="It may not"):
            await _rest(answer)


@pytest.mark.parametrize("large", [True, False])
async def test_who_does_not_read_that_it_was_refused_is_cut_off(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "LAST", 0.01)
    checks, closing, refused = Checks(None, REFUSAL), asyncio.Event(), asyncio.Event()
    watched = unless_refused if large else while_allowed
    pieces = watched(endless(refused), checks, closing, refused)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()  # the client reads nothing

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {}

    async with asyncio.timeout(10):
        await Stream(pieces, media_type="x/y", headers={}, refused=refused)({"type": "http"}, receive, send)
    assert refused.is_set()


async def _rest(stream: AsyncGenerator[bytes, None]) -> list[bytes]:
    found = []
    async for piece in stream:
        found.append(piece)
        await asyncio.sleep(0)
    return found
