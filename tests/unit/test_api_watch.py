"""A stream under watch, with a check that a test scripts; one of the page whose session ends while it is answered."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Message, Scope

from stint.core.errors import VaultUnavailableError
from stint_api.auth import Identity
from stint_api.errors import RefusalError
from stint_api.middleware.gate import Gate
from stint_api.routes import answers
from stint_api.routes.answers import refusal
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


async def endless() -> AsyncGenerator[bytes, None]:
    """A stream that always has more."""
    while True:
        yield b"piece"
        await asyncio.sleep(0)


async def until(closing: asyncio.Event, begun: asyncio.Event | None = None) -> AsyncGenerator[bytes, None]:
    """A stream that has one piece, sets `begun` once that is taken, and ends when the server does."""
    yield b"piece"
    if begun:
        begun.set()
    await closing.wait()


async def stays() -> Message:
    """A client that says nothing, and does not leave."""
    await asyncio.Event().wait()
    return {}


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "PERIOD", 0.001)


async def sent_of(
    pieces: AsyncGenerator[bytes, None], checks: Checks, closing: asyncio.Event | None = None, kind: str = EVENT_STREAM
) -> list[Message]:
    """The parts of the body that a client gets."""
    told = list[Message]()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            told.append(message)

    refused = partial(refusal, checks, closing or asyncio.Event())
    async with asyncio.timeout(10):
        await Stream(pieces, media_type=kind, headers={}, refused=refused)({"type": "http"}, stays, send)
    return told


async def test_a_stream_goes_on_while_nobody_can_say_and_ends_with_the_refusal() -> None:
    first, last = await sent_of(until(asyncio.Event()), Checks(None, AWAY, AWAY, None, REFUSAL))
    assert (first["body"], last["body"], last["more_body"]) == (
        b"piece",
        b'event: refused\ndata: {"status":"Permission Denied.","error":"It may not."}\n\n',
        False,
    )


async def test_nothing_more_is_sent_once_the_caller_was_refused() -> None:
    """There is more to come: it gets no more of it."""
    *told, last = await sent_of(endless(), Checks(REFUSAL))
    assert {part["body"] for part in told} == {b"piece"}
    assert last["body"].startswith(b"event: refused")


async def test_a_server_that_ends_is_no_refusal_and_waits_for_no_check() -> None:
    closing, checks = asyncio.Event(), Checks()
    answering = asyncio.create_task(sent_of(until(closing), checks, closing))
    await checks.used_up.wait()
    closing.set()
    assert [(part["body"], part["more_body"]) for part in await answering] == [(b"piece", True), (b"", False)]


async def test_a_stream_that_nobody_watches_any_more_ends() -> None:
    with pytest.raises(ArithmeticError):
        await sent_of(until(asyncio.Event()), Checks(ArithmeticError("a fault of ours")))


async def test_an_answer_breaks_off_once_its_caller_was_refused() -> None:
    told = await sent_of(endless(), Checks(AWAY, None, REFUSAL), kind="application/json")
    assert {(part["body"], part["more_body"]) for part in told} == {(b"piece", True)}


@pytest.mark.parametrize("kind", ["application/json", EVENT_STREAM])
async def test_who_does_not_read_that_it_was_refused_is_cut_off(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "LAST", 0.01)
    refused = partial(refusal, Checks(None, REFUSAL), asyncio.Event())

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()  # the client reads nothing

    async with asyncio.timeout(10):
        await Stream(endless(), media_type=kind, headers={}, refused=refused)({"type": "http"}, stays, send)


TEXT = "a" * 43
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class OneSession:
    """The sessions, of which there is one."""

    def __init__(self) -> None:
        self.one = Session(key=cookie.key(TEXT), token="s.token", who="anna", until=NOW, used=NOW)

    async def find(self, text: str) -> Session | None:
        return self.one if text == TEXT else None


PAGE = {"host": "localhost", "cookie": f"__Host-stint={TEXT}", "sec-fetch-site": "same-origin"}
SCOPE: Scope = {
    "type": "http",
    "method": "GET",
    "path": "/v1/api/job",
    "headers": [(name.encode(), value.encode()) for name, value in PAGE.items()],
}
FORM = {"origin": "http://localhost", cookie.CSRF: cookie.proof(TEXT)}


async def whoever(token: str | None) -> Identity:
    if token is None:
        raise RefusalError(HTTPStatus.BAD_REQUEST, "There is no token.")
    return Identity(name="anna", token=token, caller="anna")


@pytest.mark.parametrize(
    ("method", "changed", "code"),
    [
        ("GET", {}, HTTPStatus.OK),
        *(("GET", {"sec-fetch-site": site}, HTTPStatus.BAD_REQUEST) for site in ("cross-site", "same-site", "none")),
        ("GET", {"x-auth-token": "s.another"}, HTTPStatus.BAD_REQUEST),
        ("GET", {"cookie": f"__Host-stint={'b' * 43}"}, HTTPStatus.UNAUTHORIZED),
        *((method, FORM, HTTPStatus.OK) for method in ("POST", "DELETE")),
        *((method, {}, HTTPStatus.FORBIDDEN) for method in ("POST", "DELETE")),
        ("POST", FORM | {cookie.CSRF: cookie.proof("b" * 43)}, HTTPStatus.FORBIDDEN),
        ("POST", FORM | {"origin": "http://elsewhere"}, HTTPStatus.FORBIDDEN),
        ("POST", {cookie.CSRF: cookie.proof(TEXT)}, HTTPStatus.FORBIDDEN),
    ],
)
async def test_a_cookie_counts_only_for_what_the_page_sends(method: str, changed: dict[str, str], code: int) -> None:
    sessions: Any = OneSession()
    app = Gate(Response(), paths=("/v1/api/job",), sessions=sessions, identify=whoever, addresses=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        answer = await http.request(method, "/v1/api/job", headers=PAGE | changed)
    assert answer.status_code == code


async def nobody(_token: str | None) -> Identity:
    raise AssertionError


@pytest.mark.parametrize(("media_type", "finished"), [(EVENT_STREAM, True), ("application/octet-stream", False)])
async def test_a_stream_of_events_is_finished_and_any_other_answer_has_no_end(media_type: str, finished: bool) -> None:
    sessions, begun, told = OneSession(), asyncio.Event(), list[Message]()
    stream = Stream(until(asyncio.Event(), begun), media_type=media_type, headers={})
    app = Gate(stream, paths=(), sessions=sessions, identify=nobody, addresses=False)  # type: ignore[arg-type] # a fake

    async def send(message: Message) -> None:
        told.append(message)

    async with asyncio.timeout(10):
        answering = asyncio.create_task(app(SCOPE, stays, send))
        await begun.wait()
        sessions.one.ended.set()
        await answering
    assert told[1]["body"] == b"piece"
    assert (told[-1].get("more_body") is False) is finished


async def test_a_stream_that_was_whole_before_its_session_ended_is_not_finished_again() -> None:
    sessions, told = OneSession(), list[Message]()
    sessions.one.ended.set()
    whole = Response(media_type=EVENT_STREAM)
    app = Gate(whole, paths=(), sessions=sessions, identify=nobody, addresses=False)  # type: ignore[arg-type] # a fake

    async def send(message: Message) -> None:
        told.append(message)

    await app(SCOPE, stays, send)
    assert [message["type"] for message in told] == ["http.response.start", "http.response.body"]
