"""How the servers of a cluster know each other: by a password, and if they have certificates, by these too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from stint.core.errors import ConfigError

CLUSTER: Final = "cluster"  # the folder of the password
USER: Final = "stint"
PINGS: Final = {"ping_interval": "3s", "ping_max": 2}
"""How soon servers part from one that is frozen or cut off: within 12 s. By NATS' own values it would get its
share of the logins that `stint nats-auth` is asked about for 80 s, and those would fail."""


def cluster(listen: str, routes: Sequence[str], password: str, tls: dict[str, str], authority: Path | None) -> Any:
    """The setting `cluster`. Whoever could join without a password could act in every account.

    With `tls`, servers verify each other's certificates by that of the `authority`, or by the system's.
    """
    verified = {"tls": {**tls, "verify": True, **({"ca_file": str(authority.absolute())} if authority else {})}}
    return {
        "name": "stint",
        "listen": listen,
        **PINGS,
        "authorization": {"user": USER, "password": password},
        "routes": [_route(route, password) for route in routes],
        **(verified if tls else {}),
    }


def certificate(cert: Path | None, key: Path | None) -> dict[str, str]:
    """The setting of a certificate and its key, empty for none. Raises ConfigError if one of them is missing."""
    if bool(cert) != bool(key):
        raise ConfigError("--tls-cert needs --tls-key, and the other way round.")
    return {"cert_file": str(cert.absolute()), "key_file": str(key.absolute())} if cert and key else {}


def check_routes(listen: str, routes: Sequence[str]) -> None:
    """Raise ConfigError if one is not `nats://HOST:PORT`, or if the server is not in a cluster."""
    if routes and not listen:
        raise ConfigError("--route needs --cluster.")
    if not all(map(_is_route, routes)):
        raise ConfigError("--route: nats://HOST:PORT, without a password.")


def _is_route(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0 and "@" not in text
    except ValueError:
        return False


def _route(text: str, password: str) -> str:
    scheme, _, rest = text.partition("://")
    return f"{scheme}://{USER}:{password}@{rest}"
