"""The options of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stint.core.errors import ConfigError
from stint.core.payload import JobPayload

DEFAULT_URL = "http://127.0.0.1:3232"
DEFAULT_VAULT = "http://127.0.0.1:8200"
DEFAULT_ROLE = "stint-job"
DEFAULT_WRAP_TTL = "24h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The addresses of Stint and Vault, and the token to use with them.

    Attributes:
        cacert: a CA bundle to verify Stint's server with, "" for the system's.
        vault_cacert: a CA bundle to verify Vault with, "" for the system's.
    """

    url: str
    vault_addr: str
    token: str = field(repr=False)
    cacert: str = ""
    vault_cacert: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """A job, and how to run it.

    Attributes:
        role: the jobs' AppRole, and the name of the key that seals the payload.
        wrap_ttl: how long the job may wait in its queue, as a duration of Vault (`24h`).
        detach: print the job's id and do not wait.
        quiet: print only the job's output, and errors.
    """

    endpoints: Endpoints
    job: JobPayload = field(repr=False)
    role: str = DEFAULT_ROLE
    wrap_ttl: str = DEFAULT_WRAP_TTL
    detach: bool = False
    quiet: bool = False


def endpoints(environ: Mapping[str, str], *, url: str = "") -> Endpoints:
    """Read the endpoints from the environment; `url` takes precedence over `STINT_URL`.

    Raises:
        ConfigError: there is no token.
    """
    token = environ.get("STINT_TOKEN") or environ.get("VAULT_TOKEN")
    if not token:
        raise ConfigError("Set STINT_TOKEN or VAULT_TOKEN to a Vault token with the policy stint-client.")
    return Endpoints(
        url=(url or environ.get("STINT_URL") or DEFAULT_URL).rstrip("/"),
        vault_addr=environ.get("VAULT_ADDR") or DEFAULT_VAULT,
        token=token,
        cacert=environ.get("STINT_CACERT", ""),
        vault_cacert=environ.get("VAULT_CACERT", ""),
    )
