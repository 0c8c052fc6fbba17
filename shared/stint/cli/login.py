"""`stint login`: the command, and the address on this machine to which the provider sends the browser back."""

import asyncio
import errno
import hmac
import os
import webbrowser
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Annotated, Final

import typer
from aiohttp import web
from rich.console import Console

from stint.cli.errors import TIMED_OUT, reported, say
from stint.cli.jobs.interrupts import Interrupts
from stint.cli.options import taking
from stint.cli.settings import TOKENS, Found, Profile, settings, token_file
from stint.cli.show.terminal import printable
from stint.client.options import DEFAULT_VAULT
from stint.core.errors import ConfigError, VaultDeniedError
from stint.process.env_file import write_private
from stint.vault import Oidc, Vault, refusal_by_provider

app = typer.Typer(add_completion=False)

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


@dataclass(kw_only=True)
class _Options:
    role: Annotated[
        str, typer.Option(envvar="STINT_OIDC_ROLE", help="A role of the auth method. Default: the method's own.")
    ] = ""
    mount: Annotated[
        str, typer.Option(envvar="STINT_OIDC_MOUNT", help="Where the auth method is mounted below auth/.")
    ] = "oidc"
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="The port of this machine to which the provider sends the browser.")
    ] = 8250
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds to wait for the provider. Vault itself waits for 300.")
    ] = 300
    browser: Annotated[bool, typer.Option("--browser", help="Open the address in a browser.")] = False
    profile: Profile = ""


@app.command()
@taking(_Options)
def login(options: _Options) -> None:
    """Sign in to Vault at your organisation's OIDC provider, as `vault login -method=oidc` does.

    Shows an address to open in a browser on this machine, waits for the provider's answer at
    http://localhost:8250/oidc/callback, which the role must allow, and writes the token to ~/.vault-token, where all
    commands find it. The token is never shown.

    Exit codes: 2 wrong option or setting, 124 nobody has signed in within the timeout, 125 Vault cannot be reached, or
    Vault or the provider refuses, 130 Ctrl-C.

    Example: `stint login --profile staging --browser`
    """
    with reported("stint"):
        raise typer.Exit(asyncio.run(_interruptible(settings(profile=options.profile), options)))


async def _interruptible(found: Found, options: _Options) -> int:
    interrupts = Interrupts(Console(stderr=True))
    with interrupts.watched():
        return await interrupts.around(_log_in(found, options))


async def _log_in(found: Found, options: _Options) -> int:
    vault = Vault(found.get("VAULT_ADDR", DEFAULT_VAULT), cacert=found.get("VAULT_CACERT", ""))
    oidc = Oidc(vault, mount=options.mount, role=options.role)
    try:
        begun = await oidc.begin(f"http://localhost:{options.port}{PATH}")
    except VaultDeniedError as error:  # this is how Vault says that it has no such mount
        raise VaultDeniedError(f"{error.sentence} Is the auth method oidc mounted at auth/{options.mount}?") from None
    async with listening(options.port, begun.state) as answered:
        typer.echo(f"To sign in, open this address in a browser on this machine:\n\n    {begun.url}\n")
        if options.browser:  # one that runs in the terminal returns when it is left
            Thread(target=webbrowser.open, args=(begun.url,), daemon=True).start()
        try:
            async with asyncio.timeout(options.timeout):
                answer = await answered
        except TimeoutError:
            say(f"nobody has signed in within {options.timeout:g} s.")
            return TIMED_OUT
    made = await oidc.finish(begun.state, begun.nonce, _code(answer))
    path = token_file()
    try:
        write_private(path, made.token)
    except ConfigError:
        await vault.revoke_self(made.token)
        raise
    caller = await vault.lookup_self(made.token)
    typer.echo(_told(caller.display_name, caller.ttl, path, found))
    return 0


def _code(answer: Mapping[str, str]) -> str:
    if reason := refusal_by_provider(answer):
        raise VaultDeniedError(f"The provider did not sign you in: {printable(reason)}")
    return answer.get("code", "")


def _told(who: str, ttl: float, path: Path, found: Found) -> str:
    until = f"until {datetime.now(UTC) + timedelta(seconds=ttl):%Y-%m-%d %H:%M} UTC" if ttl else "without an end"
    text = f"Signed in as {printable(who)} {until}. The token is in {path}."
    before = next((name for name in TOKENS if found.origin.get(name, str(path)) != str(path)), "")
    return f"{text}\nIt does not count yet: {before} is set ({found.origin[before]})." if before else text


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
