"""The settings of a runner, and of the container engine that its watchdog reaches too."""

import os
import platform
import re
import secrets
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from stint.core.errors import ConfigError, InvalidQueueNameError
from stint.core.names.ids import normalise_queue_name
from stint.core.names.patterns import QueuePatterns
from stint.core.submission.limits import LimitPolicy, Limits
from stint.process.environment import Shape
from stint.process.settings.common import Amount, Bytes, LeaseSettings, Pause, Seconds

RUNNER_ID = re.compile(r"^[A-Za-z0-9_-]{1,128}$")
"""What a runner may be called."""


def _host_and_random_part() -> str:
    return f"{re.sub('[^A-Za-z0-9_-]', '-', platform.node())[:100]}-{secrets.token_hex(4)}"


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
    job_runtime: str = ""
    """The containers' OCI runtime, as the engine calls it, such as `crun` or `runsc`. Default: the engine's own."""
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
            timeout=self.job_timeout_max, cpus=self.job_cpus_max, memory=self.job_memory_max, pids=self.job_pids_max
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
