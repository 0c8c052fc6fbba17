"""Which faults come when: a pure function of a seed."""

import random
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

WEIGHTS: Final[Mapping[str, int]] = {
    "runner kill": 5,
    "runner pause": 5,
    "partition stall": 4,
    "partition drop": 3,
    "nats kill": 3,
    "nats pause": 3,
    "nats quorum pause": 2,
    "runner and nats kill": 2,
    "vault seal": 2,
    "projector kill": 2,
    "api kill": 2,
    "consumer delete": 1,
    "consumer churn": 2,
    "work recreate": 0,
    "work renumber": 0,
}
"""How often each kind comes. 0: only if it is asked for, since each job so far is then delivered again.

`work renumber` also forgets a job too early, which the checker sees: it serves to plant faults.
"""

_INSTANT: Final = frozenset({"consumer delete", "work recreate", "work renumber"})
"""These have no length."""
_PAUSES: Final = frozenset({"nats pause", "nats quorum pause"})
_GLOBAL: Final = _PAUSES | {"nats kill", "runner and nats kill", "vault seal", "work recreate", "work renumber"}
"""These hit everybody: one at a time."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of one of the kinds in `WEIGHTS`, `at` seconds from the run's start, for `length` seconds.

    Its target is a runner, projector, API or NATS server; of a cluster's servers 0 is the stream's leader, and a pause
    of the quorum hits all but the target. Of a consumer's it is how many running jobs' queues to pass over. -1 waits
    for a job to run, and hits its runner, or its queue's consumer.
    """

    at: float
    kind: str
    target: int
    length: float

    @property
    def place(self) -> str:
        """What it keeps busy: no two faults there at a time."""
        if self.kind in _GLOBAL:
            return "all"
        service = "runner" if self.kind.startswith("partition") else self.kind.split()[0]
        return f"{service} {self.target}"


def schedule(
    seed: int, *, seconds: float, faults: int, lease: float, sizes: Mapping[str, int], kinds: Sequence[str] = ()
) -> list[Fault]:
    """Faults in order of time, spread over `seconds`, the last one lifted by then; the same for the same seed.

    Their lengths are shorter and longer than the lease. `sizes` counts each `runner`, `projector`, `api` and `nats`.
    """
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
    chosen = {kind: WEIGHTS[kind] or 1 for kind in kinds} if kinds else WEIGHTS
    step = seconds / (faults + 1)
    free_at: dict[str, float] = {}
    made: list[Fault] = []
    for number in range(faults):
        at = step * (number + dice.uniform(0.6, 1.4))
        for _ in range(20):
            fault = _fault(dice, at, chosen, lease, sizes)
            if free_at.get(fault.place, 0.0) <= at and at + fault.length <= seconds:
                break
        else:
            fault = msgspec.structs.replace(fault, length=0.2, at=max(at, free_at.get(fault.place, 0.0)))
        free_at[fault.place] = fault.at + fault.length + 0.5
        made.append(fault)
    return sorted(made, key=lambda fault: fault.at)


def _fault(dice: random.Random, at: float, chosen: Mapping[str, int], lease: float, sizes: Mapping[str, int]) -> Fault:
    kind = dice.choices(list(chosen), weights=list(chosen.values()))[0]
    service = "runner" if kind.startswith("partition") else kind.split()[0]
    target = dice.randrange(sizes.get(service, 1))
    return Fault(at=round(at, 2), kind=kind, target=target, length=round(_length(dice, kind, lease), 2))


def _length(dice: random.Random, kind: str, lease: float) -> float:
    """Shorter than the fence, about the lease, or longer than it and the takeover."""
    if kind in _INSTANT:
        return 0.0
    if kind in {"projector kill", "api kill"}:
        return dice.uniform(0.1, 3.0)
    if kind in _GLOBAL - _PAUSES:
        return dice.choice([dice.uniform(0.1, 0.5) * lease, dice.uniform(0.5, 1.2) * lease])
    return dice.choice([dice.uniform(0.05, 0.4), dice.uniform(0.4, 1.1), dice.uniform(1.1, 3.0)]) * lease
