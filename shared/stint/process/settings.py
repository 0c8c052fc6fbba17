"""Settings, read once by each process's composition root from a mapping (the environment).

Any setting can be given as `NAME_FILE` instead: the value is then the file's text without surrounding white space.
"""

import os
import platform
import re
import secrets
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from stint.core.errors import ConfigError, UndecodableError
from stint.core.limits import LimitPolicy, Limits, parse_memory
from stint.process.environment import Shape


def _bytes(value: int | str) -> int:
    try:
        return parse_memory(value)
    except UndecodableError as error:
        raise ValueError(error.sentence.removeprefix("memory ")) from None


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0, lt=2**63)]
"""A number, or one with `k`, `m`, `g` or `t`."""
Amount = Annotated[float, Field(ge=0)]
"""Its upper bound is that of `stint.limits`."""
Seconds = Annotated[float, Field(gt=0, le=10**9)]
"""31 years at most: dates, and the nanoseconds that NATS and Docker count in, can hold it."""
Pause = Annotated[float, Field(ge=0, le=10**9)]
"""Seconds that may be none."""
Port = Annotated[int, Field(ge=0, le=65535)]
"""0 takes a free one."""


def _host_and_random_part() -> str:
    return f"{re.sub('[^A-Za-z0-9_-]', '-', platform.node())[:100]}-{secrets.token_hex(4)}"


class Settings(Shape):
    """What every service needs: where NATS and Vault are."""

    nats_url: str = "nats://127.0.0.1:4222"
    """NATS servers, comma-separated. Credentials can be part of the URL. `tls://`: never without TLS."""
    nats_cacert: str = ""
    """A CA bundle to verify NATS with; requires TLS."""
    nats_cert: str = ""
    """Certificate chain to show to NATS, PEM; requires TLS."""
    nats_key: str = ""
    """Its key, PEM."""
    nats_creds: SecretStr = SecretStr("")
    """Text of a credentials file: a user's JWT and seed. Give the file as `STINT_NATS_CREDS_FILE`."""
    nats_nkey: SecretStr = SecretStr("")
    """A user's nkey seed. Give its file as `STINT_NATS_NKEY_FILE`."""
    js_prefix: str = "$JS.API"
    """Prefix of the JetStream API, where it is imported from another account."""
    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Copies of each stream: 1, or 3 on a cluster."""
    vault_addr: str = "http://127.0.0.1:8200"
    """The Vault or OpenBao server."""
    vault_external_addr: str = ""
    """Where clients reach it, if elsewhere."""
    vault_cacert: str = ""
    """A CA bundle to verify it with."""
    role: str = "stint-job"
    """The AppRole that jobs log in with, and the name of the transit key that seals payloads."""
    retention: Seconds = 6 * 3600
    """Seconds that an ended job can be read."""
    health_port: Port | None = None
    """Port of /healthz and /readyz on loopback, for runners and projectors; 0 takes a free one."""
    compat: Literal["", "gostint"] = ""
    """`gostint`: behave as GoStint does where Stint differs for good reason."""


class ApiSettings(Settings):
    """The API's own."""

    host: str = ""
    """Address to listen on. Default: all with TLS, loopback only without."""
    port: Port = 3232
    """Port to listen on; 0 takes a free one."""
    port_report: str = ""
    """A file to write the port to, once it listens, for whoever gave port 0."""
    tls_cert: str = ""
    """Certificate chain, PEM."""
    tls_key: str = ""
    """Its key, PEM."""
    api_role_id: str
    """The API's own AppRole."""
    api_secret_id: SecretStr
    """Its secret id."""
    authz: Literal["any", "vault"] = "vault"
    """`vault`: policies on `stint/queue/<qname>` decide. `any`: every valid token may do everything."""
    request_bytes: Annotated[Bytes, Field(ge=30 * 2**20)] = 64 * 2**20
    """Bytes of request bodies held at a time, at least `30m`; beyond them a submission gets a 503 (`Retry-After`)."""
    request_timeout: Seconds = 10.0
    """Seconds in which a request's head must come, and over which the rate of its body is measured."""
    body_rate: Annotated[float, Field(ge=0, le=10**9)] = 1000.0
    """The fewest bytes a second at which a request's body must come; else it gets a 408. 0 is no limit."""
    connections: Annotated[int, Field(ge=1, le=10**6)] = 512
    """Connections at a time; more get a 503 with `Retry-After`. The process needs about 50 file descriptors more."""
    streams: Annotated[int, Field(ge=1, le=10**6)] = 100
    """Event streams that one caller may have open; more get a 429 with `Retry-After`."""

    @model_validator(mode="after")
    def _both_tls_files(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("STINT_TLS_CERT and STINT_TLS_KEY belong together")
        return self

    @property
    def by_policy(self) -> bool:
        """Whether Vault's policies decide who may do what. `STINT_COMPAT=gostint` asks that any token may do all."""
        asked = "authz" in self.model_fields_set or not self.compat
        return asked and self.authz == "vault"

    @property
    def listen_host(self) -> str:
        """The address to listen on."""
        return self.host or ("0.0.0.0" if self.tls_cert else "127.0.0.1")  # noqa: S104 - TLS is on


class LeaseSettings(Settings):
    """What runners and projectors must agree on."""

    lease: Seconds = 30.0
    """Seconds a delivery is leased for."""
    takeover: Seconds = 15.0
    """Seconds a successor waits after it found that another runner's job was lost."""


class EngineSettings(Shape):
    """Where the container engine is, for a runner and its watchdog, which is told nothing else."""

    docker_host: str = ""
    """The container engine. Default: the local socket."""
    docker_cert_path: str = ""
    """Folder of `ca.pem`, `cert.pem` and `key.pem`. With it, `tcp://` is TLS, and the engine is always verified."""
    docker_tls_verify: str = ""
    """Anything: `tcp://` is TLS, with the files in `DOCKER_CERT_PATH` or `~/.docker`."""
    docker_api_version: Annotated[str, Field(pattern=r"^(v?[0-9]+\.[0-9]+)?$")] = ""
    """Version of the engine's API to speak, such as `1.43`. Default: the engine's own."""


class RunnerSettings(LeaseSettings, EngineSettings):
    """A runner's own."""

    runner_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")] = Field(default_factory=_host_and_random_part)
    """Its name. Give a fixed one, so that it can know its own jobs after a restart."""
    runner_role_id: str
    """The runner's own AppRole."""
    runner_secret_id: SecretStr
    """Its secret id."""
    role_id: str
    """Role id of the jobs' AppRole."""
    capacity: Annotated[int, Field(ge=1, le=10_000)] = Field(default_factory=lambda: 2 * (os.cpu_count() or 1))
    """Jobs at a time."""
    kill_grace: Seconds = 15.0
    """Seconds between SIGTERM and SIGKILL when a user kills a job."""
    hold_queues: str = ""
    """Patterns of queues, comma-separated, that wait when a job's runner is lost, unless the job's `on_lost` says."""
    state_dir: str = ""
    """Folder of the running jobs' deadlines, which the watchdog reads. Default: one under `/run` or the user's own."""
    drain: Pause = 30.0
    """Seconds that running jobs may go on after SIGTERM or SIGINT; then they are killed."""
    docker_config: str = ""
    """Folder of Docker's `config.json`, whose registry logins are used. Default: `~/.docker`."""
    registry_secrets: str = ""
    """Vault path of registry logins, such as `kv/data/registries`: `user:password` or an object, by registry."""
    image_retention: Pause = 24 * 3600
    """Seconds that an image which Stint pulled stays after its last use by a job; 0: for ever."""
    job_network: str = "bridge"
    """The containers' network: `bridge`, `none`, `host` or a network's name."""
    images_allow: str = "*"
    """Patterns of images that may run, comma-separated, `*` for anything."""
    job_networks: str = "none,bridge"
    """Networks that a job may ask for, comma-separated: `none`, `bridge`. That of `STINT_JOB_NETWORK` it always may."""
    job_timeout: Amount = 0
    """Seconds that a job may run if it does not ask; 0 is no limit, here and in the next ones."""
    job_timeout_max: Amount = 0
    """The most that a job may ask for, and what it gets if nobody says anything; likewise with the next ones."""
    job_cpus: Amount = 0
    """Processors' worth of time, such as 0.5."""
    job_cpus_max: Amount = 0
    """Its maximum."""
    job_memory: Bytes = 0
    """Memory and swap together: bytes, or a number with `k`, `m` or `g`."""
    job_memory_max: Bytes = 0
    """Its maximum."""
    job_pids: Annotated[int, Field(ge=0)] = 4096
    """Processes and threads at a time."""
    job_pids_max: Annotated[int, Field(ge=0)] = 0
    """Its maximum."""
    prepare_memory: Annotated[Bytes, Field(gt=0)] = 512 * 2**20
    """Bytes of memory for the payloads and content of all jobs that are being prepared; jobs beyond it wait."""
    output_limit: Bytes = 64 * 2**20
    """Bytes of output kept of a job; of a longer one the rest is dropped while it runs on. 0 is no limit."""

    @property
    def limits(self) -> LimitPolicy:
        """What jobs get and may ask for. The built-in limit on processes yields to a maximum, and to `compat`."""
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
    def _limits_fit(self) -> Self:
        try:
            self.limits.check()
        except ConfigError as error:
            raise ValueError(error.sentence) from None
        return self


class ProjectorSettings(LeaseSettings):
    """A projector's own."""

    history: Seconds = 30 * 24 * 3600
    """Seconds after its end that a job's facts stay in the log, unseen; at least as long as it can be read."""
