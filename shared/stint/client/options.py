"""Where Stint and Vault are, and as whom to ask them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stint.core.errors import ConfigError

DEFAULT_URL = "http://127.0.0.1:3232"
DEFAULT_VAULT = "http://127.0.0.1:8200"
DEFAULT_ROLE = "stint-job"
DEFAULT_WRAP_TTL = "24h"
"""How long a job may wait in its queue, as a duration of Vault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The addresses of Stint and Vault, and the token to use with them.

    Attributes:
        role: the jobs' AppRole, and the name of the key that seals payloads.
        cacert: a CA bundle to verify Stint's server with, "" for the system's.
        vault_cacert: a CA bundle to verify Vault with, "" for the system's.
    """

    url: str
    vault_addr: str
    token: str = field(repr=False)
    role: str = DEFAULT_ROLE
    cacert: str = ""
    vault_cacert: str = ""


def endpoints(environ: Mapping[str, str], *, publisher: bool = False) -> Endpoints:
    """Read the endpoints from the environment. Raises ConfigError if there is no token.

    A direct `publisher` has only VAULT_TOKEN: STINT_TOKEN is that of a client of the API, which may not seal tickets.
    """
    token = environ.get("VAULT_TOKEN") if publisher else environ.get("STINT_TOKEN") or environ.get("VAULT_TOKEN")
    if not token:
        names, policy = ("VAULT_TOKEN", "publisher") if publisher else ("STINT_TOKEN or VAULT_TOKEN", "client")
        raise ConfigError(f"Set {names} to a Vault token with the policy stint-{policy}.")
    return Endpoints(
        url=(environ.get("STINT_URL") or DEFAULT_URL).rstrip("/"),
        vault_addr=environ.get("VAULT_ADDR") or DEFAULT_VAULT,
        token=token,
        role=environ.get("STINT_ROLE") or DEFAULT_ROLE,
        cacert=environ.get("STINT_CACERT", ""),
        vault_cacert=environ.get("VAULT_CACERT", ""),
    )
