"""Redirects and token checks, before a request is routed."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from stint.core.errors import StintError
from stint_api.auth import Identity
from stint_api.errors import error_answer, unknown_path

Identify = Callable[[str | None], Awaitable[Identity]]


class Gate:
    """Redirects a path with a trailing slash, and requires a token on some paths and on every path below them."""

    def __init__(self, app: ASGIApp, *, paths: Collection[str], identify: Identify, addresses: bool) -> None:
        """`paths` need a token; `identify` gets that header's text, None if it is absent.

        With `addresses` the caller's identity has the address of the other end of the connection.
        """
        self._app = app
        self._addresses = addresses
        self._paths = tuple(paths)
        self._identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on with `state.caller` set."""
        answer = await self._stop(scope) if scope["type"] == "http" else None
        await (answer or self._app)(scope, receive, send)

    async def _stop(self, scope: Scope) -> Response | None:
        path: str = scope["path"]
        if path != "/" and path.endswith("/"):
            return _without_slash(scope)
        if path.startswith(self._paths) and not path.isprintable():
            return unknown_path()  # a route's pattern would match a path that ends in a newline
        if path not in self._paths and not path.startswith(tuple(f"{guarded}/" for guarded in self._paths)):
            return None
        try:
            caller = await self._identify(Headers(scope=scope).get("x-auth-token"))
        except StintError as error:
            return error_answer(error)
        if self._addresses and scope.get("client"):
            caller = replace(caller, address=scope["client"][0])
        scope.setdefault("state", {})["caller"] = caller
        return None


def _without_slash(scope: Scope) -> Response:
    """Redirect to the path as the client wrote it: one that begins with two slashes would name another host."""
    path: bytes = scope["raw_path"]
    if not path.startswith(b"/") or path.startswith(b"//") or not path.endswith(b"/") or b"\\" in path:
        return unknown_path()
    query: bytes = scope["query_string"]
    location = path[:-1] + (b"?" + query if query else b"")
    return Response(status_code=HTTPStatus.MOVED_PERMANENTLY, headers={"Location": location.decode("latin-1")})
