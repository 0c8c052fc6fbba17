"""Waits on loopback for a provider's answer, which a browser brings."""

import asyncio
import errno
import hmac
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from stint.core.errors import ConfigError

PATH: Final = "/oidc/callback"
"""Where `vault login` listens, too: one address in a role's `allowed_redirect_uris` serves both."""
TAKEN: Final = "The provider has answered. Your terminal says what became of it; this window can be closed.\n"
FOREIGN: Final = (
    "This answers no sign-in that waits here. Run `stint login` again, and open the address that it shows.\n"
)
_NO_IPV6: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_HEADERS: Final = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'"}

Answer = Mapping[str, str]
"""The parameters of the address that the browser was sent to."""


@asynccontextmanager
async def listening(port: int, state: str) -> AsyncIterator[asyncio.Future[Answer]]:
    """Listen during the block, for the first answer with this state. Raises ConfigError if the port is taken."""
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    async def take(request: web.Request) -> web.Response:
        given = request.query.get("state", "")
        if answer.done() or not hmac.compare_digest(given.encode(errors="replace"), state.encode()):
            return web.Response(status=400, text=FOREIGN, headers=_HEADERS)
        answer.set_result(dict(request.query))
        return web.Response(text=TAKEN, headers=_HEADERS)

    application = web.Application()
    application.router.add_get(PATH, take, allow_head=False)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await _listen(runner, port)
        yield answer
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int) -> None:
    """Listen on both addresses that `localhost` stands for. A machine may lack the second."""
    for host, optional in (("127.0.0.1", False), ("::1", True)):
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            if not (optional and error.errno in _NO_IPV6):
                reason = os.strerror(error.errno or 0)
                raise ConfigError(f"--port: {host} port {port} cannot be listened on: {reason}.") from None
