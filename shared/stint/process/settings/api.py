"""The API's settings."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from stint.process.settings.common import Bytes, HistorySettings, Port, Seconds


class ApiSettings(HistorySettings):
    """The API's settings."""

    host: str = ""
    """Address to listen on; `::` is all of IPv6 and IPv4. Default: all of IPv4 with TLS, otherwise loopback only."""
    port: Port = 3232
    """Port to listen on; 0 for any free port."""
    port_report: str = ""
    """File to which the API writes its port once it listens; useful with port 0."""
    tls_cert: str = ""
    """The server's certificate chain, PEM."""
    tls_key: str = ""
    """The key of the server's certificate, PEM."""
    api_role_id: str
    """Role id of the API's AppRole."""
    api_secret_id: SecretStr
    """Secret id of the API's AppRole."""
    authz: Literal["any", "vault"] = "vault"
    """`vault`: policies on `stint/queue/<qname>` decide. `any`: every valid token may do everything."""
    erasure: Literal["on", "off"] = "on"
    """`on`: payloads are also encrypted with a key of their own in Vault, which is destroyed with them. `off`: not."""
    request_bytes: Annotated[Bytes, Field(ge=30 * 2**20)] = 64 * 2**20
    """Bytes of request bodies in memory at a time, at least `30m`; beyond, a submission gets a 503 (`Retry-After`)."""
    request_timeout: Seconds = 10.0
    """Seconds for a TLS handshake, and for a request's head; also the interval in which its body's rate is measured."""
    body_timeout: Seconds = 300.0
    """Seconds within which a request's whole body must arrive; a slower request gets a 408."""
    send_timeout: Seconds = 60.0
    """Interval in which it is measured how fast a client reads its answer; it is cut off below `STINT_BODY_RATE`."""
    body_rate: Annotated[float, Field(ge=0, le=10**9)] = 1000.0
    """Bytes a second with which a request's body must arrive at least; a slower request gets a 408. 0 is no limit."""
    connections: Annotated[int, Field(ge=1, le=10**6)] = 512
    """Connections at a time; more get a 503, or with TLS are closed. 100 more open files are needed (`ulimit -Hn`)."""
    audit_events: Annotated[int, Field(ge=1, le=10**8)] = 500_000
    """Newest events of the log that the audit covers: some 100 bytes of memory for each."""
    keep_payloads: Annotated[float, Field(ge=0, le=10**9)] = 0
    """Seconds from its submission in which a job can be run again, 0 for none. Needs `STINT_ERASURE=off`."""
    audit_addresses: bool = True
    """Whether events say from which address their request came: personal data, kept for `STINT_HISTORY`."""
    oidc_role: str = ""
    """Role of Vault's auth method `oidc` with which people sign in to the page. If empty, they need a Vault token."""
    oidc_mount: str = "oidc"
    """Where that auth method is mounted below `auth/`."""
    oidc_label: str = "Sign in with OIDC"
    """Words of the page's link to the OIDC provider, such as its name."""
    streams: Annotated[int, Field(ge=1, le=10**6)] = 100
    """Event streams and answers over 1 MiB that one caller may have open; more get a 429 with `Retry-After`."""

    @model_validator(mode="after")
    def _both_tls_files(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("STINT_TLS_CERT and STINT_TLS_KEY belong together")
        return self

    @model_validator(mode="after")
    def _no_copy_that_cannot_be_erased(self) -> Self:
        if self.keep_payloads and self.erasure == "on":
            raise ValueError("STINT_KEEP_PAYLOADS needs STINT_ERASURE=off: a copy has no key that could be destroyed")
        return self

    @property
    def by_policy(self) -> bool:
        """Whether Vault's policies decide who may do what. `STINT_COMPAT=gostint` lets any token do everything."""
        asked = "authz" in self.model_fields_set or not self.compat
        return asked and self.authz == "vault"

    @property
    def listen_host(self) -> str:
        """The address to listen on."""
        return self.host or ("0.0.0.0" if self.tls_cert else "127.0.0.1")  # noqa: S104 - TLS is on
