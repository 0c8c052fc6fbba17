"""A request of the page whose session ends while it is answered."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest
from starlette.types import Message, Scope

from stint_api.middleware.gate import SignedIn
from stint_api.session import cookie
from stint_api.session.store import Session
from stint_api.web.streaming import EVENT_STREAM, Stream

TEXT = "a" * 43
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class OneSession:
    """The sessions, of which there is one."""

    def __init__(self) -> None:
        self.one = Session(key=cookie.key(TEXT), token="s.token", who="anna", until=NOW, used=NOW)

    async def find(self, text: str) -> Session | None:
        return self.one if text == TEXT else None


async def endless(begun: asyncio.Event) -> AsyncGenerator[bytes, None]:
    yield b"piece"
    begun.set()
    await asyncio.Event().wait()


@pytest.mark.parametrize(("media_type", "finished"), [(EVENT_STREAM, True), ("application/octet-stream", False)])
async def test_a_stream_of_events_is_finished_and_any_other_answer_has_no_end(media_type: str, finished: bool) -> None:
    sessions, begun, told = OneSession(), asyncio.Event(), list[Message]()
    app = SignedIn(Stream(endless(begun), media_type=media_type, headers={}), sessions=sessions)  # type: ignore[arg-type] # a fake

    async def send(message: Message) -> None:
        told.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()  # the client stays
        return {}

    sent = {"host": "localhost", "cookie": f"__Host-stint={TEXT}", "sec-fetch-site": "same-origin"}
    headers = [(name.encode(), value.encode()) for name, value in sent.items()]
    scope: Scope = {"type": "http", "method": "GET", "path": "/v1/api/job", "headers": headers}
    async with asyncio.timeout(10):
        answering = asyncio.create_task(app(scope, receive, send))
        await begun.wait()
        sessions.one.ended.set()
        await answering
    assert told[1]["body"] == b"piece"
    assert (told[-1].get("more_body") is False) is finished
