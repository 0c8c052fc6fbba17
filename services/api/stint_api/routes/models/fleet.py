"""Queues, runners, health, and where Vault is."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, create_model

from stint.core.view import NEVER
from stint_api.read.runners import NUMBERS, WORDS
from stint_api.routes.models.base import JOB_ID, SHOWN, AsOf, Body


class PausedBody(Body):
    """The pause of a queue."""

    who: Annotated[str, Field(examples=["oidc-anna"])]
    """Vault's display name of the operator's token."""
    at: Annotated[str, Field(examples=["2025-03-12T20:58:57.412Z"])]
    """When the queue was paused."""
    reason: Annotated[str, Field(examples=["The database is being moved."])]
    """The operator's own words."""


_QUEUE: Final[dict[str, Any]] = {
    "qname": "deploys",
    "depth": 2,
    "running": JOB_ID,
    "running_status": "running",
    "oldest_wait": 17.0,
    "held": False,
    "held_since": NEVER,
    "paused": None,
    "served": True,
    "last_contact": "2025-03-12T20:58:57.412Z",
    "ended_last_hour": 31,
    "failed_last_hour": 1,
}


class QueueBody(Body):
    """A queue. Times are RFC 3339 in UTC, `0001-01-01T00:00:00Z` for none."""

    model_config = ConfigDict(json_schema_extra={"examples": [_QUEUE]})

    qname: str
    """Its name."""
    depth: int
    """How many jobs wait."""
    running: str
    """The id of the job that a runner has, "" if none has one."""
    running_status: Literal["", "running", "stopping"]
    """The status of that job."""
    oldest_wait: float
    """For how many seconds the job that waits longest has waited; 0 if none waits."""
    held: bool
    """Whether the runner of that job was lost, and the queue waits for that runner or for a release."""
    held_since: str
    """When that was noticed."""
    paused: PausedBody | None
    """Who paused it, when and why; null if it is not paused."""
    served: bool
    """Whether a runner that is alive and takes jobs serves it."""
    last_contact: str
    """When the runner of the running job reported last; when the job started, if that runner is not alive."""
    ended_last_hour: int
    """Jobs that ended within an hour, as far as they are kept."""
    failed_last_hour: int
    """Those of them that did not succeed."""


class LastHourBody(Body):
    """A queue's last 60 minutes, by the jobs that are kept; deleted ones are not counted.

    The last minute is not over. Each figure is null in minutes of which nothing is kept any more.
    """

    since: str
    """When the first minute began."""
    depth: list[int | None]
    """How many jobs waited at the minute's end."""
    busy: list[float | None]
    """For how many seconds of it a runner had a job of the queue."""
    longest_wait: list[float | None]
    """For how many seconds a job had waited at most that was claimed in it; null also if none was."""
    ended: list[int | None]
    """How many jobs ended."""
    failed: list[int | None]
    """How many of them did not succeed."""


_NOW: Final = "2025-03-12T20:58:57.412Z"


class QueueDetailBody(QueueBody):
    """A queue, and which jobs wait in it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_QUEUE | {"waiting": [JOB_ID], "now": _NOW}]})

    waiting: list[str]
    """The ids of the first 100 jobs that wait, in order."""
    now: str
    """The time."""
    last_hour: LastHourBody | None = None
    """With `last_hour=true`: the last hour."""


class QueueListBody(AsOf):
    """The queues with jobs that can be seen, and those that are paused, by name."""

    data: list[QueueBody]
    """The queues that the caller may read."""


class RunnerBody(Body):
    """A runner, as it reported last."""

    runner: Annotated[str, Field(examples=["runner-1"])]
    """Its name."""
    alive: bool
    """Whether it reported within 30 seconds. If not, it is not known whether its containers live."""
    last_seen: Annotated[str, Field(examples=["2025-03-12T20:58:57.412Z"])]
    """When it reported last."""
    draining: bool
    """Whether it takes no more jobs."""
    drained_by: Annotated[str, Field(examples=["token-stint-operator"])]
    """Who asked for the drain, "" if that was a signal."""
    capacity: Annotated[int, Field(examples=[4])]
    """How many jobs it runs at a time."""
    running: list[Annotated[str, Field(examples=[JOB_ID])]]
    """The ids of its jobs, of those that the caller may read."""
    queues: list[Annotated[str, Field(examples=["deploys"])]]
    """The patterns of the queues that it serves; none means all."""
    version: Annotated[str, Field(examples=["0.1.0"])]
    """Its version of Stint."""
    started: Annotated[str, Field(examples=["2025-03-12T20:00:00.000Z"])]
    """When its process began, by its own clock; `0001-01-01T00:00:00Z` if it does not say."""
    kill_grace: Annotated[float, Field(examples=[15.0])]
    """Seconds from SIGTERM to SIGKILL."""
    engine: dict[str, int | str]
    """Figures of its container engine."""


class RunnersBody(AsOf):
    """The runners."""

    data: list[RunnerBody]
    """Those that are alive first."""


class DrainedBody(Body):
    """A runner that was asked to drain."""

    runner: Annotated[str, Field(examples=["runner-1"])]
    """Its name."""
    asked: Literal[True]
    """Always true."""


class VaultInfoBody(Body):
    """The addresses of Vault."""

    vault_addr: Annotated[str, Field(examples=["http://127.0.0.1:8200"])]
    """For the services."""
    vault_external_addr: Annotated[str, Field(examples=["https://vault.example:8200"])]
    """For clients."""


_FIGURES: Final = ("all_jobs", *(f"{state}_jobs" for state in SHOWN), "unserved_jobs", *NUMBERS, *WORDS)
_TEXTS: Final[dict[str, Any]] = dict.fromkeys(_FIGURES, str)

HealthBody: Final = create_model(
    "HealthBody",
    __doc__="Counts of jobs, and figures of the runners' engines: all of them text.",
    state=Literal["active", "draining"],
    **_TEXTS,
)
