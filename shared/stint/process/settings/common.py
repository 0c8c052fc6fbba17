"""Settings that several services have, and the kinds of values that settings have."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from stint.core.errors import UndecodableError
from stint.core.submission.limits import parse_memory
from stint.process.environment import Shape


def _bytes(value: int | str) -> int:
    try:
        return parse_memory(value)
    except UndecodableError as error:
        raise ValueError(error.sentence.removeprefix("memory ")) from None


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0, lt=2**63)]
"""A number, or one with `k`, `m`, `g` or `t`."""
Amount = Annotated[float, Field(ge=0)]
"""`stint.core.submission.limits` checks its upper bound."""
Seconds = Annotated[float, Field(gt=0, le=10**9)]
"""At most 31 years, which dates and the nanoseconds of NATS and Docker can represent."""
Pause = Annotated[float, Field(ge=0, le=10**9)]
"""Seconds, possibly 0."""
Port = Annotated[int, Field(ge=0, le=65535)]
"""0 means any free port."""


class Settings(Shape):
    """The settings of every service: access to NATS and Vault."""

    nats_url: str = "nats://127.0.0.1:4222"
    """NATS servers, comma-separated. Credentials can be part of the URL. `tls://` requires TLS."""
    nats_cacert: str = ""
    """A CA bundle to verify NATS with; requires TLS."""
    nats_cert: str = ""
    """The client certificate chain for NATS, PEM; requires TLS."""
    nats_key: str = ""
    """The key of the client certificate, PEM."""
    nats_creds: SecretStr = SecretStr("")
    """Text of a credentials file: a user's JWT and seed. Give the file as `STINT_NATS_CREDS_FILE`."""
    nats_nkey: SecretStr = SecretStr("")
    """A user's nkey seed. Give its file as `STINT_NATS_NKEY_FILE`."""
    nats_user: str = ""
    """With a Vault token as the password: the publisher's queues, comma-separated and spelled as in policies."""
    nats_password: SecretStr = SecretStr("")
    """A password for NATS, or a publisher's Vault token."""
    nats_inbox_prefix: str = ""
    """Prefix of the subjects on which this user may receive answers, if NATS allows it no other."""
    js_prefix: str = "$JS.API"
    """Prefix of the JetStream API if it is imported from another account."""
    cloudevents: Literal["on", "off"] = "off"
    """`on`: each event that this service writes has the headers of a CloudEvent, some 230 bytes. `off`: not."""
    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Copies of each stream: 1, or 3 on a cluster."""
    vault_addr: str = "http://127.0.0.1:8200"
    """Address of the Vault or OpenBao server."""
    vault_external_addr: str = ""
    """Address at which clients reach Vault, if it differs."""
    vault_cacert: str = ""
    """A CA bundle to verify Vault with."""
    role: str = "stint-job"
    """The AppRole that jobs log in with, and the name of the transit key that seals payloads."""
    retention: Seconds = 6 * 3600
    """Seconds for which an ended job can be read."""
    health_port: Port | None = None
    """Port of `/healthz` and `/readyz` on loopback, for all services but the API; 0 for any free port."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged. `debug` also tells of what a service tries again by itself."""
    compat: Literal["", "gostint"] = ""
    """`gostint`: behave as GoStint does, even where Stint deliberately differs."""

    @property
    def as_cloudevents(self) -> bool:
        """Whether events have the headers of CloudEvents."""
        return self.cloudevents == "on"


class HistorySettings(Settings):
    """Settings that must be the same for the API, projectors and `stint nats-auth`."""

    history: Seconds = 30 * 24 * 3600
    """Seconds for which a job's events stay in the log after its end, at least as long as the job can be read."""


class LeaseSettings(Settings):
    """Settings that must be the same for runners and projectors."""

    lease: Annotated[float, Field(ge=0.5, le=10**9)] = 30.0
    """Seconds for which a delivery is leased."""
    takeover: Seconds = 15.0
    """Seconds for which a runner waits after it has taken over another runner's lost job."""
