"""Settings, read once by each process's composition root from a mapping (the environment).

Any setting can be given as `NAME_FILE` instead: the value is then the file's text without surrounding white space.
"""

from typing import Annotated

from pydantic import Field, SecretStr

from stint.process.settings.api import ApiSettings
from stint.process.settings.common import HistorySettings, LeaseSettings, Settings
from stint.process.settings.runner import RUNNER_ID, EngineSettings, RunnerSettings

__all__ = (
    "RUNNER_ID",
    "ApiSettings",
    "EngineSettings",
    "HistorySettings",
    "LeaseSettings",
    "NatsAuthSettings",
    "ProjectorSettings",
    "RunnerSettings",
    "Settings",
)


class NatsAuthSettings(HistorySettings):
    """The settings of `stint nats-auth`."""

    nats_auth_issuer: SecretStr
    """Seed of the account key that signs logins. Give its file as `STINT_NATS_AUTH_ISSUER_FILE`."""
    nats_auth_xkey: SecretStr
    """Seed of the xkey that logins are encrypted for. Give its file as `STINT_NATS_AUTH_XKEY_FILE`."""
    nats_auth_users: str = ""
    """Publishers with keys, and pools with patterns. Give the file of `nats-config` as `STINT_NATS_AUTH_USERS_FILE`."""
    nats_auth_seconds: Annotated[float, Field(ge=1, le=10**6)] = 30.0
    """Seconds that a publisher may stay connected before Vault is asked again, and a right taken away still counts."""
    nats_auth_logins: Annotated[int, Field(ge=1, le=10**6)] = 200
    """Logins of one identity of Vault that this process lets be good at a time; each is good for the seconds above."""
    nats_auth_rate: Annotated[float, Field(gt=0, le=10**9)] = 500.0
    """Messages a second that a publisher of NATS may send, or 64 KiB each; with more it is kept out for a minute."""


class ProjectorSettings(LeaseSettings, HistorySettings):
    """A projector's settings."""
