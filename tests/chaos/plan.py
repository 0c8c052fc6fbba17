"""What a run is to be."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from tests.chaos.schedule import WEIGHTS

JOBS_A_SECOND: Final = {"scripted": 4.0, "docker": 1.5}
"""What two cores can do beside the faults."""
PLANT: Final = "CHAOS_PLANT"
"""The setting in which planted services find `Plan.plant`."""
SECONDS_A_FAULT: Final = 5.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run's course depends on, besides chance.

    Attributes:
        seed: of the load and the faults.
        seconds: in which jobs come and faults happen; what is left to do then follows.
        jobs: how many.
        faults: how many.
        engine: `scripted` or `docker`.
        servers: NATS servers, 1 or 3.
        runners, capacity: how many, and jobs at a time of each.
        apis, projectors: how many.
        queues: how many, beside one whose jobs are held.
        lease, takeover: L and T: the shortest that fit each other.
        kinds: of faults, () for all.
        keep: folder for the evidence, "" for none.
        plant: what `tests.chaos.planted` and `tests.chaos.projector` are to break, names with commas.
        steady: seconds that the first job lasts, and ten times what the others do; all are published and none is
            killed or deleted. 0 for a mix.
        slow: seconds that the scripted engine's kills take.
        bound: what `patience` is to be, 0 for what follows from the rest.
        settle: seconds in which whatever follows the last end must have happened.
        held: whether there is a queue whose jobs wait for an operator when their runner is lost.
    """

    seed: int = 1
    seconds: float = 300.0
    jobs: int = 0
    faults: int = 0
    engine: str = "scripted"
    servers: int = 1
    runners: int = 5
    capacity: int = 6
    apis: int = 2
    projectors: int = 2
    queues: int = 40
    lease: float = 6.0
    takeover: float = 7.5
    kinds: tuple[str, ...] = ()
    keep: str = ""
    plant: str = ""
    steady: float = 0.0
    slow: float = 0.0
    bound: float = 0.0
    settle: float = 60.0
    held: bool = True

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """`CHAOS_SECONDS`, `CHAOS_JOBS`, `CHAOS_SEED`, `CHAOS_ENGINE`, `CHAOS_FAULTS`, `CHAOS_SERVERS`, `CHAOS_KEEP`,
        `CHAOS_KINDS` (of faults, with commas).

        Raises:
            msgspec.ValidationError: one is no such value.
        """
        names = {"seconds", "jobs", "seed", "engine", "faults", "servers", "keep"}
        given: dict[str, Any] = {name: value for name in names if (value := environ.get(f"CHAOS_{name.upper()}"))}
        if kinds := environ.get("CHAOS_KINDS"):
            given["kinds"] = tuple(kind.strip() for kind in kinds.split(","))
        plan = msgspec.convert({"seed": secrets.randbelow(10**6), **given}, cls, strict=False)
        seconds = plan.seconds
        jobs = plan.jobs or int(seconds * JOBS_A_SECOND.get(plan.engine, 1.0))
        faults = plan.faults if "faults" in given else int(seconds / SECONDS_A_FAULT)
        return msgspec.structs.replace(plan, jobs=jobs, faults=faults)

    def __post_init__(self) -> None:
        if self.engine not in JOBS_A_SECOND or self.servers not in {1, 3}:
            raise ValueError("CHAOS_ENGINE is scripted or docker, CHAOS_SERVERS 1 or 3")
        if unknown := set(self.kinds) - set(WEIGHTS):
            raise ValueError(f"CHAOS_KINDS: {', '.join(sorted(unknown))} is none of {', '.join(WEIGHTS)}")

    @property
    def patience(self) -> float:
        """The bound of liveness: seconds after the last fault in which something of each queue must have ended.

        Two losses in a row, the longest job, and a round of all queues over the slots.
        """
        return self.bound or 3 * (self.lease + self.takeover) + 15 + self.queues / 2

    @property
    def sizes(self) -> Mapping[str, int]:
        """For `schedule`."""
        return {"runner": self.runners, "projector": self.projectors, "api": self.apis, "nats": self.servers}

    @property
    def machines(self) -> int:
        """Scripted engines: of three runners and more, two share one. Who takes a job over elsewhere cannot end it."""
        return self.runners if self.runners < 3 else self.runners - 1

    @property
    def runner_module(self) -> str:
        return f"tests.chaos.{self.engine}_runner"


ROOT: Final = Path(__file__).parents[2]
