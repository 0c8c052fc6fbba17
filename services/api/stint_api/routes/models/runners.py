"""The runners."""

from typing import Annotated, Literal

from pydantic import Field

from stint_api.routes.models.base import JOB_ID, AsOf, Body


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
