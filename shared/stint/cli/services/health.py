"""`stint health`: the images' health check."""

import ipaddress
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from stint.core.errors import ConfigError
from stint.process.environment import load
from stint.process.settings import ApiSettings, Settings

WITHIN: Final = 5.0
"""Seconds for the answer."""

app = typer.Typer(add_completion=False)


@app.command()
def health(
    service: Annotated[
        Literal["api", "runner", "projector", "nats-auth"],
        typer.Argument(metavar="SERVICE", help="The service whose settings are in the environment."),
    ],
) -> None:
    """Exit with 0 if a service on this machine is ready. Otherwise say what is missing, and exit with 1.

    Example: `stint health api`
    """
    # The service's certificate names the host that clients see, and no proxy leads to this machine. Not httpx: it
    # would make this start half as slow again.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - see above
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url(service, os.environ), timeout=WITHIN):
            return
    except urllib.error.HTTPError as error:
        missing = error.read().decode(errors="replace").strip()
    except ConfigError as error:
        missing = error.sentence
    except OSError as error:
        missing = str(error)
    typer.echo(missing)
    raise typer.Exit(1)


def url(service: str, environ: Mapping[str, str]) -> str:
    """The service's `/readyz`: on the API's own port, or its health port. Raises ConfigError if that is not known."""
    if service == "api":
        settings = load(ApiSettings, environ)
        scheme = "https" if settings.tls_cert else "http"
        return f"{scheme}://{_reachable(settings.listen_host)}:{_api_port(settings)}/readyz"
    port = load(Settings, environ).health_port
    if not port:
        raise ConfigError("STINT_HEALTH_PORT: the health check must know the port.")
    return f"http://127.0.0.1:{port}/readyz"


def _api_port(settings: ApiSettings) -> int:
    if settings.port:
        return settings.port
    try:
        return int(Path(settings.port_report).read_text(encoding="ascii"))
    except (OSError, ValueError):
        raise ConfigError("STINT_PORT: the health check must know the port.") from None


def _reachable(host: str) -> str:
    """An address of the server: loopback if it listens on all addresses."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:  # noqa: PLR2004 - IPv4
        return "127.0.0.1" if address.is_unspecified else host
    return "[::1]" if address.is_unspecified else f"[{host}]"
