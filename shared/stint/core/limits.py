"""What a job may use of its runner: what it asks for, weighed against what is allowed. 0 is no limit."""

import re
from collections.abc import Collection
from typing import Final

import msgspec

from stint.core.errors import ConfigError, JobFailedError, UndecodableError
from stint.core.payload import JobPayload

NETWORKS: Final = ("none", "bridge")
"""What a job may call its network. What else an engine knows is for the server's settings alone."""
HOLD: Final = "hold"
ON_LOST: Final = ("advance", HOLD)
"""What a queue does when a job's runner is lost: it goes on, or it waits for that runner or a release."""

SETTINGS: Final = {
    "timeout": "STINT_JOB_TIMEOUT",
    "cpus": "STINT_JOB_CPUS",
    "memory": "STINT_JOB_MEMORY",
    "pids": "STINT_JOB_PIDS",
}
"""Each limit's default. Its maximum is the same name with `_MAX`."""

_LEAST: Final = {"timeout": 0.001, "cpus": 0.01, "memory": 6 * 2**20, "pids": 1}
"""Docker refuses less CPU time and less memory."""
_MOST: Final = {"timeout": 366 * 86_400, "cpus": 10_000, "memory": 2**50, "pids": 2**22}
"""Beyond what anyone can mean; more processes than that no kernel has ids for."""
_UNITS: Final = {"timeout": " seconds", "cpus": "", "memory": " bytes", "pids": ""}

_MEMORY: Final = re.compile(r"(?P<number>[0-9]{1,16}(?:\.[0-9]{1,9})?) ?(?P<power>[kmgt]?)(?:i?b)?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one container, 0 for none.

    Attributes:
        timeout: seconds from its start.
        cpus: processors' worth of time.
        memory: bytes, swap included.
        pids: processes and threads at a time.
    """

    timeout: float = 0
    cpus: float = 0
    memory: int = 0
    pids: int = 0


class LimitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner gives and allows.

    Attributes:
        defaults: for jobs that do not ask.
        maxima: no job gets more; without a default, who does not ask gets this.
        network: the engine's network mode of jobs that do not ask.
        networks: what a job may ask for besides.
    """

    defaults: Limits = Limits(pids=4096)
    maxima: Limits = Limits()
    network: str = "bridge"
    networks: Collection[str] = NETWORKS

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: a limit out of bounds, a default above its maximum, or an unknown network; names the settings.
        """
        for field, name in SETTINGS.items():
            default, maximum = getattr(self.defaults, field), getattr(self.maxima, field)
            for setting, value in ((name, default), (f"{name}_MAX", maximum)):
                if not _plausible(field, value):
                    raise ConfigError(f"{setting} must be {_bounds(field)}")
            if maximum and default > maximum:
                raise ConfigError(f"{name} ({_shown(default)}) is more than {name}_MAX ({_shown(maximum)})")
        if not set(self.networks) <= set(NETWORKS):
            raise ConfigError(f"STINT_JOB_NETWORKS lists some of {', '.join(NETWORKS)}")

    def limits(self, job: JobPayload) -> Limits:
        """The limits of a job that `check_limits` has let pass.

        Raises:
            JobFailedError: `payload`: it asks for more than is allowed here.
        """
        asked = {"timeout": job.timeout, "cpus": job.cpus, "memory": parse_memory(job.memory), "pids": job.pids}
        settled = {field: self._settle(field, value) for field, value in asked.items()}
        return msgspec.convert(settled, Limits)

    def _settle(self, field: str, asked: float) -> float:
        default: float = getattr(self.defaults, field)
        maximum: float = getattr(self.maxima, field)
        if maximum and asked > maximum:
            unit = _UNITS[field]
            raise JobFailedError(
                f"{field}: the job asks for {_shown(asked)}{unit}, and at most {_shown(maximum)}{unit} "
                f"can be had here ({SETTINGS[field]}_MAX).",
                reason="payload",
            )
        return asked or default or maximum

    def network_of(self, job: JobPayload) -> str:
        """The engine's network mode for a job that `check_limits` has let pass.

        Raises:
            JobFailedError: `payload`: it asks for a network that is not allowed here.
        """
        allowed = dict.fromkeys((self.network, *self.networks))
        if job.network and job.network not in allowed:
            raise JobFailedError(
                f"network: the job asks for {job.network}, and only {', '.join(allowed)} can be had here "
                "(STINT_JOB_NETWORKS).",
                reason="payload",
            )
        return job.network or self.network


def check_limits(job: JobPayload) -> None:
    """Refuse what no runner could take, whatever its settings.

    Raises:
        UndecodableError: names the field and what it may be, never the value.
    """
    asked = {"timeout": job.timeout, "cpus": job.cpus, "memory": parse_memory(job.memory), "pids": job.pids}
    for field, value in asked.items():
        if not _plausible(field, value):
            raise UndecodableError(f"{field} must be {_bounds(field)}")
    if job.network not in {"", *NETWORKS}:
        raise UndecodableError(f"network must be one of {', '.join(NETWORKS)}")
    if job.on_lost not in {"", *ON_LOST}:
        raise UndecodableError(f"on_lost must be one of {', '.join(ON_LOST)}")


def parse_memory(value: int | str) -> int:
    """Bytes of `512m` and its like: powers of 1024, either case, fractions, `b` and `ib` as Docker takes them.

    Raises:
        UndecodableError: not such a number.
    """
    if isinstance(value, int):
        return value
    if not value:
        return 0
    match = _MEMORY.fullmatch(value)
    if match is None:
        raise UndecodableError("memory must be a number of bytes, or a number with k, m, g or t")
    return int(float(match["number"]) * 1024 ** _POWERS[match["power"].lower()])


def _plausible(field: str, value: float) -> bool:
    return value == 0 or _LEAST[field] <= value <= _MOST[field]


def _bounds(field: str) -> str:
    return f"{_LEAST[field]} to {_MOST[field]}{_UNITS[field]}, or 0"


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.12g}"
