"""Settings, read once by each process's composition root from a mapping (the environment).

Any setting can be given as `NAME_FILE` instead: the value is then the file's text without surrounding white space.
"""

import os
import platform
import re
import secrets
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from stint.core.errors import ConfigError, InvalidQueueNameError, UndecodableError
from stint.core.names.ids import normalise_queue_name
from stint.core.names.patterns import QueuePatterns
from stint.core.submission.limits import LimitPolicy, Limits, parse_memory
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


RUNNER_ID = re.compile(r"^[A-Za-z0-9_-]{1,128}$")
"""What a runner may be called."""


def _host_and_random_part() -> str:
    return f"{re.sub('[^A-Za-z0-9_-]', '-', platform.node())[:100]}-{secrets.token_hex(4)}"


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
    compat: Literal["", "gostint"] = ""
    """`gostint`: behave as GoStint does, even where Stint deliberately differs."""


class ApiSettings(Settings):
    """The API's settings."""

    host: str = ""
    """Address to listen on. Default: all addresses with TLS, otherwise loopback only."""
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
    """Connections at a time; more get a 503, or with TLS are closed. The process needs 50 file descriptors more."""
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


class HistorySettings(Settings):
    """Settings that must be the same for projectors and `stint nats-auth`."""

    history: Seconds = 30 * 24 * 3600
    """Seconds for which a job's events stay in the log after its end, at least as long as the job can be read."""


class NatsAuthSettings(HistorySettings):
    """The settings of `stint nats-auth`."""

    nats_auth_issuer: SecretStr
    """Seed of the account key that signs logins. Give its file as `STINT_NATS_AUTH_ISSUER_FILE`."""
    nats_auth_xkey: SecretStr
    """Seed of the xkey that logins are encrypted for. Give its file as `STINT_NATS_AUTH_XKEY_FILE`."""
    nats_auth_seconds: Annotated[float, Field(ge=1, le=10**6)] = 30.0
    """Seconds that a publisher may stay connected before Vault is asked again, and a right taken away still counts."""
    nats_auth_logins: Annotated[int, Field(ge=1, le=10**6)] = 200
    """Logins of one identity of Vault that this process lets be good at a time; each is good for the seconds above."""


class LeaseSettings(Settings):
    """Settings that must be the same for runners and projectors."""

    lease: Seconds = 30.0
    """Seconds for which a delivery is leased."""
    takeover: Seconds = 15.0
    """Seconds for which a runner waits after it has taken over another runner's lost job."""


class EngineSettings(Shape):
    """Access to the container engine: for a runner, and for its watchdog, which gets no other settings."""

    docker_host: str = ""
    """Address of the container engine. Default: the local socket."""
    docker_cert_path: str = ""
    """Folder of `ca.pem`, `cert.pem` and `key.pem`. If set, `tcp://` uses TLS, and the engine is always verified."""
    docker_tls_verify: str = ""
    """If not empty, `tcp://` uses TLS with the files in `DOCKER_CERT_PATH` or `~/.docker`."""
    docker_api_version: Annotated[str, Field(pattern=r"^(v?[0-9]+\.[0-9]+)?$")] = ""
    """Version of the engine's API to use, such as `1.43`. Default: the engine's own."""


class RunnerSettings(LeaseSettings, EngineSettings):
    """A runner's settings."""

    runner_id: Annotated[str, Field(pattern=RUNNER_ID)] = Field(default_factory=_host_and_random_part)
    """The runner's name. Set a fixed one, so that the runner recognises its jobs after a restart."""
    runner_role_id: str
    """Role id of the runner's own AppRole."""
    runner_secret_id: SecretStr
    """Secret id of the runner's own AppRole."""
    role_id: str
    """Role id of the jobs' AppRole."""
    capacity: Annotated[int, Field(ge=1, le=10_000)] = Field(default_factory=lambda: 2 * (os.cpu_count() or 1))
    """Jobs that run at a time."""
    queues: str = ""
    """Patterns of the queues that this runner serves, comma-separated, such as `deploys,net-*`. Default: all queues."""
    kill_grace: Seconds = 15.0
    """Seconds between SIGTERM and SIGKILL when a user kills a job."""
    hold_queues: str = ""
    """Patterns of queues, comma-separated, which wait if a job's runner is lost. `on_lost` takes precedence."""
    state_dir: str = ""
    """Folder for the running jobs' deadlines, which the watchdog reads. Default: one under `/run` or the user's own."""
    drain: Pause = 30.0
    """Seconds for which running jobs may continue after SIGTERM or SIGINT; then they are killed."""
    docker_config: str = ""
    """Folder of Docker's `config.json`, whose registry logins are used. Default: `~/.docker`."""
    registry_secrets: str = ""
    """Vault path of registry logins, such as `kv/data/registries`: `user:password` or an object for each registry."""
    image_retention: Pause = 24 * 3600
    """Seconds for which an image that Stint pulled is kept after its last use by a job; 0 keeps it for ever."""
    job_network: str = "bridge"
    """The containers' network: `bridge`, `none`, `host` or a network's name."""
    images_allow: str = "*"
    """Patterns of images that may run, comma-separated; `*` matches any text."""
    job_networks: str = "none,bridge"
    """Networks that a job may ask for, comma-separated: `none`, `bridge`. `STINT_JOB_NETWORK` is always allowed."""
    job_timeout: Amount = 0
    """Default for a job's `timeout`, in seconds. 0 is no limit, here and for the limits below."""
    job_timeout_max: Amount = 0
    """Maximum of a job's `timeout`. Without a default, jobs that ask for nothing get the maximum; also below."""
    job_cpus: Amount = 0
    """Default for a job's `cpus`: number of processors, such as 0.5."""
    job_cpus_max: Amount = 0
    """Maximum of a job's `cpus`."""
    job_memory: Bytes = 0
    """Default for a job's `memory`, including swap: bytes, or a number with `k`, `m` or `g`."""
    job_memory_max: Bytes = 0
    """Maximum of a job's `memory`."""
    job_pids: Annotated[int, Field(ge=0)] = 4096
    """Default for a job's `pids`: processes and threads at a time."""
    job_pids_max: Annotated[int, Field(ge=0)] = 0
    """Maximum of a job's `pids`."""
    prepare_memory: Annotated[Bytes, Field(gt=0)] = 512 * 2**20
    """Bytes of memory for the payloads and content of all jobs that are being prepared; further jobs wait."""
    output_limit: Bytes = 64 * 2**20
    """Bytes of a job's output that are kept; the rest is dropped, and the job continues. 0 is no limit."""

    @property
    def served(self) -> QueuePatterns:
        """The queues that the runner serves."""
        return QueuePatterns.parse(self.queues)

    @property
    def limits(self) -> LimitPolicy:
        """The limits for jobs. The built-in limit on processes gives way to a lower maximum, and to `compat`."""
        pids = self.job_pids
        if "job_pids" not in self.model_fields_set:
            pids = 0 if self.compat else min(pids, self.job_pids_max or pids)
        defaults = Limits(timeout=self.job_timeout, cpus=self.job_cpus, memory=self.job_memory, pids=pids)
        maxima = Limits(
            timeout=self.job_timeout_max,
            cpus=self.job_cpus_max,
            memory=self.job_memory_max,
            pids=self.job_pids_max,
        )
        names = (name.strip() for name in self.job_networks.split(","))
        networks = tuple(name for name in names if name)
        return LimitPolicy(defaults=defaults, maxima=maxima, network=self.job_network, networks=networks)

    @model_validator(mode="after")
    def _queues_are_some(self) -> Self:
        if self.queues and not self.served.patterns:
            raise ValueError("STINT_QUEUES names no queue; without it a runner serves all queues")
        try:
            for qname in self.served.names or ():
                normalise_queue_name(qname)
        except InvalidQueueNameError as error:
            raise ValueError(f"STINT_QUEUES: {error.sentence}") from None
        return self

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        try:
            self.limits.check()
        except ConfigError as error:
            raise ValueError(error.sentence) from None
        return self


class ProjectorSettings(LeaseSettings, HistorySettings):
    """A projector's settings."""
