"""`stint health`: the images' health check."""

import ipaddress
import os
import ssl
from collections.abc import Mapping
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from threading import Thread
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import typer

from stint.core.errors import ConfigError
from stint.process.environment import load
from stint.process.settings import ApiSettings, Settings

WITHIN: Final = 5.0
"""Seconds for the whole answer."""
MOST: Final = 4096
"""Bytes of an answer that are read: services say in a sentence what is missing."""

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
    said = list[str]()
    # In a thread, which is left behind when it is late: no time-out bounds a question to a name server.
    asking = Thread(target=lambda: said.append(_missing(service)), daemon=True)
    asking.start()
    asking.join(WITHIN)
    if missing := said[0] if said else f"No answer within {WITHIN:g} s.":
        typer.echo(missing)
        raise typer.Exit(1)


def _missing(service: str) -> str:
    """What is missing for the service to be ready, "" if nothing is."""
    try:
        return _asked(url(service, os.environ))
    except ConfigError as error:
        return error.sentence
    except (OSError, UnicodeError) as error:
        return str(error) or type(error).__name__
    except HTTPException as error:
        return f"The answer is not HTTP ({type(error).__name__})."


def _asked(address: str) -> str:
    """What the service says is missing. A redirect is no answer: another server may be ready.

    Raises OSError or HTTPException if there is no answer, and UnicodeError if the host cannot be one.
    """
    parts = urlsplit(address)
    # The service's certificate names the host that clients see. Not httpx: it would make this start half as slow again.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - see above
    tls = parts.scheme == "https"
    connection = HTTPSConnection(parts.netloc, context=context) if tls else HTTPConnection(parts.netloc)
    with closing(connection):
        connection.request("GET", parts.path)
        with connection.getresponse() as answer:
            if answer.status == HTTPStatus.OK:
                return ""
            said = answer.read(MOST).decode(errors="replace").strip()
            return said or f"The answer has the status {answer.status}."


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
