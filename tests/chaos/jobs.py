"""The jobs of a load, by chance from a seed."""

import random
from collections.abc import Iterator
from typing import Final

import msgspec

from stint.core.submission.payload import JobPayload
from tests.chaos.plan import ROOT, Plan

SCRIPT: Final = (ROOT / "tests" / "chaos" / "job.sh").read_text(encoding="utf-8")
HELD_QUEUE: Final = "held"

STEP: Final = 0.1
"""Seconds of a tick of a job of a given length."""

_VIA: Final = {"publish": 80, "rest": 7, "key": 13}
_FATES: Final = {"": 91, "kill": 4, "delete": 3, "delete late": 2}
_LENGTHS: Final = {(1, 0.05): 60, (3, 0.05): 30, (10, 0.1): 8, (60, 0.2): 1}
"""Ticks, and seconds of each: most are short, some last longer than a lease."""


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One job to be.

    Attributes:
        via: `publish`, `rest` or `key` (REST with an Idempotency-Key).
        fate: "", `kill`, `delete` (at once) or `delete late`.
        doubt: leave an outcome unknown that a second try would tell.
        again: send a request with a key again though it was answered.
        after: seconds until the kill or the late deletion.
    """

    number: int
    key: str
    queue: str
    ticks: int
    pause: float
    each: int
    via: str
    fate: str
    doubt: bool
    again: bool
    after: float

    @property
    def lines(self) -> int:
        return self.ticks * self.each

    @property
    def hold(self) -> bool:
        return self.queue == HELD_QUEUE

    def payload(self, image: str, truth: str) -> JobPayload:
        arguments = (truth, self.queue, self.key, str(self.ticks), str(self.pause), str(self.each))
        run, on_lost = ("sh", "-c", SCRIPT, "job", *arguments), "hold" if self.hold else ""
        return JobPayload(qname=self.queue, container_image=image, run=run, network="none", on_lost=on_lost)


def jobs(plan: Plan) -> Iterator[JobPlan]:
    """The plan's jobs, the same for the same seed."""
    dice = random.Random(f"jobs {plan.seed}")  # noqa: S311 - repeatable, not secret

    def pick(weights: dict[str, int]) -> str:
        return dice.choices(list(weights), weights=list(weights.values()))[0]

    queues = [f"queue-{number:02d}" for number in range(plan.queues)]
    for number in range(plan.jobs):
        ticks, pause = dice.choices(list(_LENGTHS), weights=list(_LENGTHS.values()))[0]
        if plan.steady:
            ticks, pause = max(1, round(plan.steady / STEP / (10 if number else 1))), STEP
        held = plan.held and dice.random() < 1 / (plan.queues + 1)
        yield JobPlan(
            number=number,
            key=f"{plan.seed}-{number}",
            queue=HELD_QUEUE if held else dice.choice(queues),
            ticks=ticks,
            pause=pause,
            each=dice.choice([0, 2, 2, 5, 40]),
            via="publish" if plan.steady else pick(_VIA),
            fate="" if plan.steady else pick(_FATES),
            doubt=dice.random() < 0.1,
            again=dice.random() < 0.3,
            after=dice.uniform(0.0, 4.0),
        )
