"""What a request is told that the API cannot finish before it ends."""

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stint_api.errors import RefusalError, error_answer

ENDED: Final = "The API was stopped before it had finished. It is not known whether this was done. Try again."


class Ending:
    """Answers a request that is cancelled, unless its answer has begun: uvicorn would say `Internal Server Error`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        begun = scope["type"] != "http"

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except asyncio.CancelledError:
            if begun:
                raise
            await error_answer(RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, ENDED))(scope, receive, send)
