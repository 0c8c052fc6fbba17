"""Every answer is measured once, for whoever wants to know: metrics and the access log."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stint_api.auth.authenticator import Identity
from stint_api.errors import CLIENT_LEFT
from stint_api.web.connections import REFUSED
from stint_api.web.paths import routes_at

UNKNOWN_PATH: Final = "unknown"
"""The path of all that no route stands at: clients cannot make label values."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
"""Any other method counts as `other`, for the same reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A request and its answer.

    Attributes:
        path: a route's template, or `UNKNOWN_PATH`.
        seconds: from the request's head to the end of its answer.
        caller: whose token it was, None where none was asked for or taken.
    """

    code: int
    method: str
    path: str
    seconds: float
    caller: Identity | None


class Measured:
    """Measures every answer, also those that no route gives. An answer that is streamed counts when it ends."""

    def __init__(self, app: ASGIApp, *, tell: Sequence[Callable[[Answered], None]]) -> None:
        """`tell`: who wants to know of each answer."""
        self._app = app
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, and measure the answer. An error that escapes is a 500 to the client; no answer is `CLIENT_LEFT`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, code = time.perf_counter(), 0

        async def watch(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except BaseException:
            code = code or HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            code = scope.get("state", {}).get(REFUSED) or code or CLIENT_LEFT
            self._answered(scope, int(code), time.perf_counter() - begin)

    def _answered(self, scope: Scope, code: int, seconds: float) -> None:
        answered = Answered(
            code=code,
            method=scope["method"] if scope["method"] in METHODS else "other",
            path=_template(scope),
            seconds=seconds,
            caller=scope.get("state", {}).get("caller"),
        )
        for tell in self._tell:
            tell(answered)


def _template(scope: Scope) -> str:
    return next((str(route.path_format) for route in routes_at(scope["app"].routes, scope["path"])), UNKNOWN_PATH)
