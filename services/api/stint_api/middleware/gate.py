"""Who is calling, before a request is routed: the session of the page, or a token."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stint.core.errors import StintError
from stint.process.waiting import InterruptedByEventError, unless
from stint_api.auth import Identity
from stint_api.errors import RefusalError, error_answer, unknown_path
from stint_api.session import cookie
from stint_api.session.store import Session, Sessions
from stint_api.web.streaming import EVENT_STREAM

PREFIX: Final = "/v1/"
TOKEN: Final = "x-auth-token"
ENDED: Final = "The session has ended. Sign in again."

Identify = Callable[[str | None], Awaitable[Identity]]


class Gate:
    """Redirects a path with a trailing slash, and requires a token on some paths and on every path below them.

    The cookie of the page's session stands for its token, where other sites cannot have sent it.
    """

    def __init__(
        self, app: ASGIApp, *, paths: Collection[str], sessions: Sessions, identify: Identify, addresses: bool
    ) -> None:
        """`paths` need a token; `identify` gets the text of its header, None if it is absent.

        With `addresses` the caller's identity has the address of the other end of the connection.
        """
        self._app = app
        self._addresses = addresses
        self._paths = tuple(paths)
        self._sessions = sessions
        self._identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on with `state.caller` set.

        If its session ends, the request sees its client leave, and ends too.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            session = await self._session(scope)
            answer = await self._stop(scope, session)
        except StintError as error:
            session, answer = None, error_answer(error)
        if answer:
            await answer(scope, receive, send)
        elif session:
            await _until_ended(self._app, scope, receive, send, session.ended)
        else:
            await self._app(scope, receive, send)

    async def _session(self, scope: Scope) -> Session | None:
        if not scope["path"].startswith(PREFIX):
            return None
        headers = Headers(scope=scope)
        text = cookie.value(headers)
        if not text:
            return None
        if TOKEN in headers:
            raise RefusalError(
                HTTPStatus.BAD_REQUEST,
                "The request has both a session's cookie and X-Auth-Token: sign out of the page, or send no token.",
            )
        if not cookie.comes_from_us(headers):
            return None
        if scope["method"] not in cookie.SAFE:
            proven = cookie.is_proof(text, headers.get(cookie.CSRF, ""))
            if not (proven and cookie.names_us(headers)):
                raise RefusalError(HTTPStatus.FORBIDDEN, "The request does not come from Stint's page. Load it again.")
        session = await self._sessions.find(text)
        if session is None:
            raise RefusalError(HTTPStatus.UNAUTHORIZED, ENDED)
        return session

    async def _stop(self, scope: Scope, session: Session | None) -> Response | None:
        path: str = scope["path"]
        if path != "/" and path.endswith("/"):
            return _without_slash(scope)
        if path.startswith(self._paths) and not path.isprintable():
            return unknown_path()  # a route's pattern would match a path that ends in a newline
        if path not in self._paths and not path.startswith(tuple(f"{guarded}/" for guarded in self._paths)):
            return None
        caller = await self._identify(session.token if session else Headers(scope=scope).get(TOKEN))
        if self._addresses and scope.get("client"):
            caller = replace(caller, address=scope["client"][0])
        scope.setdefault("state", {})["caller"] = caller
        return None


async def _until_ended(app: ASGIApp, scope: Scope, receive: Receive, send: Send, ended: asyncio.Event) -> None:
    """Run the application. When `ended` is set, it is told that its client has left.

    A stream of events is finished then. Any other answer breaks off: it must not look as if it were whole.
    """
    endless = finished = False

    async def heard() -> Message:
        try:
            return await unless(ended, receive())
        except InterruptedByEventError:
            return {"type": "http.disconnect"}

    async def sent(message: Message) -> None:
        nonlocal endless, finished
        if message["type"] == "http.response.start":
            endless = Headers(raw=message["headers"]).get("content-type", "").startswith(EVENT_STREAM)
        finished = message["type"] == "http.response.body" and not message.get("more_body")
        await send(message)

    await app(scope, heard, sent)
    if ended.is_set() and endless and not finished:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _without_slash(scope: Scope) -> Response:
    """Redirect to the path as the client wrote it: one that begins with two slashes would name another host."""
    path: bytes = scope["raw_path"]
    if not path.startswith(b"/") or path.startswith(b"//") or not path.endswith(b"/") or b"\\" in path:
        return unknown_path()
    query: bytes = scope["query_string"]
    location = path[:-1] + (b"?" + query if query else b"")
    return Response(status_code=HTTPStatus.MOVED_PERMANENTLY, headers={"Location": location.decode("latin-1")})
