"""A stream under watch, with a check that a test scripts; one of the page whose session ends while it is answered."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from http import HTTPStatus

import pytest
from starlette.types import Message, Scope

from stint.core.errors import VaultUnavailableError
from stint_api.errors import RefusalError
from stint_api.middleware.gate import SignedIn
from stint_api.routes import answers
from stint_api.routes.answers import unless_refused, while_allowed
from stint_api.session import cookie
from stint_api.session.store import Session
from stint_api.web import streaming
from stint_api.web.streaming import EVENT_STREAM, Stream

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


async def stays() -> Message:
    """A client that says nothing, and does not leave."""
    await asyncio.Event().wait()
    return {}


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

    async with asyncio.timeout(10):
        await Stream(pieces, media_type="x/y", headers={}, refused=refused)({"type": "http"}, stays, send)
    assert refused.is_set()


async def _rest(stream: AsyncGenerator[bytes, None]) -> list[bytes]:
    found = []
    async for piece in stream:
        found.append(piece)
        await asyncio.sleep(0)
    return found


TEXT = "a" * 43
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class OneSession:
    """The sessions, of which there is one."""

    def __init__(self) -> None:
        self.one = Session(key=cookie.key(TEXT), token="s.token", who="anna", until=NOW, used=NOW)

    async def find(self, text: str) -> Session | None:
        return self.one if text == TEXT else None


async def hanging(begun: asyncio.Event) -> AsyncGenerator[bytes, None]:
    yield b"piece"
    begun.set()
    await asyncio.Event().wait()


@pytest.mark.parametrize(("media_type", "finished"), [(EVENT_STREAM, True), ("application/octet-stream", False)])
async def test_a_stream_of_events_is_finished_and_any_other_answer_has_no_end(media_type: str, finished: bool) -> None:
    sessions, begun, told = OneSession(), asyncio.Event(), list[Message]()
    app = SignedIn(Stream(hanging(begun), media_type=media_type, headers={}), sessions=sessions)  # type: ignore[arg-type] # a fake

    async def send(message: Message) -> None:
        told.append(message)

    sent = {"host": "localhost", "cookie": f"__Host-stint={TEXT}", "sec-fetch-site": "same-origin"}
    headers = [(name.encode(), value.encode()) for name, value in sent.items()]
    scope: Scope = {"type": "http", "method": "GET", "path": "/v1/api/job", "headers": headers}
    async with asyncio.timeout(10):
        answering = asyncio.create_task(app(scope, stays, send))
        await begun.wait()
        sessions.one.ended.set()
        await answering
    assert told[1]["body"] == b"piece"
    assert (told[-1].get("more_body") is False) is finished
