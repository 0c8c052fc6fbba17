"""The limits of a job: what it asks for, within what its runner's settings allow. 0 is no limit."""

import re
from collections.abc import Collection
from typing import Final

import msgspec

from stint.core.errors import ConfigError, JobFailedError, UndecodableError
from stint.core.submission.payload import JobPayload

NETWORKS: Final = ("none", "bridge")
"""Networks that a job may name. Only the server's settings may name the engine's other networks."""
HOLD: Final = "hold"
ON_LOST: Final = ("advance", HOLD)
"""What a queue does if a job's runner is lost: it continues, or it waits for that runner or a release."""

SETTINGS: Final = {
    "timeout": "STINT_JOB_TIMEOUT",
    "cpus": "STINT_JOB_CPUS",
    "memory": "STINT_JOB_MEMORY",
    "pids": "STINT_JOB_PIDS",
}
"""The setting of each limit's default. The name of its maximum is the same with `_MAX`."""

_LEAST: Final = {"timeout": 0.001, "cpus": 0.01, "memory": 6 * 2**20, "pids": 1}
"""Docker refuses less CPU time and less memory."""
_MOST: Final = {"timeout": 366 * 86_400, "cpus": 10_000, "memory": 2**50, "pids": 2**22}
"""Larger values are mistakes; no kernel has ids for more processes than that."""
_UNITS: Final = {"timeout": " seconds", "cpus": "", "memory": " bytes", "pids": ""}

_MEMORY: Final = re.compile(r"(?P<number>[0-9]{1,16}(?:\.[0-9]{1,9})?) ?(?P<power>[kmgt]?)(?:i?b)?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one container, 0 for none: seconds from its start, processors, bytes with swap, and processes."""

    timeout: float = 0
    cpus: float = 0
    memory: int = 0
    pids: int = 0


class LimitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A runner's defaults and maxima.

    Attributes:
        defaults: for jobs that ask for nothing.
        maxima: no job gets more. Without a default, a job that asks for nothing gets the maximum.
        network: the engine's network mode for jobs that ask for nothing.
        networks: further networks that a job may ask for.
    """

    defaults: Limits = Limits(pids=4096)
    maxima: Limits = Limits()
    network: str = "bridge"
    networks: Collection[str] = NETWORKS

    def check(self) -> None:
        """Check the settings. Raises ConfigError, which names the setting that is wrong."""
        for field, name in SETTINGS.items():
            default, maximum = getattr(self.defaults, field), getattr(self.maxima, field)
            for setting, value in ((name, default), (f"{name}_MAX", maximum)):
                if not _plausible(field, value):
                    raise ConfigError(f"{setting} must be {_bounds(field)}")
            if maximum and default > maximum:
                raise ConfigError(f"{name} ({_shown(default)}) is more than {name}_MAX ({_shown(maximum)})")
        if not set(self.networks) <= set(NETWORKS):
            raise ConfigError(f"STINT_JOB_NETWORKS may only contain {', '.join(NETWORKS)}")

    def limits(self, job: JobPayload) -> Limits:
        """The limits of a job that `check_limits` has accepted. Raises JobFailedError if it asks for too much."""
        settled = {field: self._settle(field, value) for field, value in _asked(job).items()}
        return msgspec.convert(settled, Limits)

    def _settle(self, field: str, asked: float) -> float:
        default: float = getattr(self.defaults, field)
        maximum: float = getattr(self.maxima, field)
        if maximum and asked > maximum:
            unit = _UNITS[field]
            raise JobFailedError(
                f"{field}: the job asks for {_shown(asked)}{unit}, and at most {_shown(maximum)}{unit} "
                f"is allowed here ({SETTINGS[field]}_MAX).",
                reason="payload",
            )
        return asked or default or maximum

    def network_of(self, job: JobPayload) -> str:
        """The engine's network mode for such a job. Raises JobFailedError if the job may not ask for it here."""
        allowed = dict.fromkeys((self.network, *self.networks))
        if job.network and job.network not in allowed:
            raise JobFailedError(
                f"network: the job asks for {job.network}, and only {', '.join(allowed)} may be used here "
                "(STINT_JOB_NETWORKS).",
                reason="payload",
            )
        return job.network or self.network


def check_limits(job: JobPayload) -> None:
    """Check for values that no runner accepts, whatever its settings.

    Raises UndecodableError, which names the field and what it may be, never the value that was given.
    """
    for field, value in _asked(job).items():
        if not _plausible(field, value):
            raise UndecodableError(f"{field} must be {_bounds(field)}")
    if job.network not in {"", *NETWORKS}:
        raise UndecodableError(f"network must be one of {', '.join(NETWORKS)}")
    if job.on_lost not in {"", *ON_LOST}:
        raise UndecodableError(f"on_lost must be one of {', '.join(ON_LOST)}")


def parse_memory(value: int | str) -> int:
    """A text such as `512m` in bytes: powers of 1024, either case, fractions, `b` and `ib`. Raises UndecodableError."""
    if isinstance(value, int):
        return value
    if not value:
        return 0
    match = _MEMORY.fullmatch(value)
    if match is None:
        raise UndecodableError("memory must be a number of bytes, or a number with k, m, g or t")
    return int(float(match["number"]) * 1024 ** _POWERS[match["power"].lower()])


def _asked(job: JobPayload) -> dict[str, float]:
    return {"timeout": job.timeout, "cpus": job.cpus, "memory": parse_memory(job.memory), "pids": job.pids}


def _plausible(field: str, value: float) -> bool:
    return value == 0 or _LEAST[field] <= value <= _MOST[field]


def _bounds(field: str) -> str:
    return f"{_LEAST[field]} to {_MOST[field]}{_UNITS[field]}, or 0"


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.12g}"
