"""Faults planted in the product itself, run for real: the checker must see each of them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tests.chaos.evidence import Answer
from tests.chaos.load import Load
from tests.chaos.plan import Plan
from tests.chaos.run import Report, run
from tests.chaos.schedule import Fault

pytestmark = [pytest.mark.soak, pytest.mark.timeout(240)]

SMALL = Plan(
    seed=1, seconds=1, jobs=12, queues=2, steady=0.3, runners=2, capacity=4, projectors=1, apis=0, settle=3, bound=10,
    held=False,
)  # fmt: skip
CLEAN = {"settle": 60.0, "bound": 60.0}
"""Of a run in which nothing else may be seen: what a busy machine does late is no fault."""
SLOW = msgspec.structs.replace(SMALL, steady=3)
"""Jobs that last longer than a busy machine needs to start the next."""
LONG = msgspec.structs.replace(SMALL, jobs=2, queues=1, steady=20, slow=4.5, bound=60)
"""A first job that outlives a lease and a takeover, on engines whose kills take almost as long as K allows."""


async def planted(plan: Plan, name: str, faults: Sequence[Fault] = ()) -> Report:
    return await run(msgspec.structs.replace(plan, plant=name), list(faults))


def found(report: Report) -> set[str]:
    return {violation.invariant for violation in report.violations}


PLANTED = {
    "early ack": {"I1"},
    "wide consumer": {"I1"},
    "double run": {"I3"},
    "event skipped": {"I5"},
    "dropped chunk": {"I6"},
    "lost piece": {"I6"},
    "token kept": {"I7"},
    "container kept": {"I7"},
    "payload kept": {"I7"},
    "deaf": {"I2", "I8"},
}


async def test_a_fault_in_a_service_is_seen() -> None:
    free = asyncio.Semaphore(4)

    async def missed(name: str, invariants: set[str]) -> str:
        async with free:
            report = await planted(SLOW if "I1" in invariants else SMALL, name)
        return "" if invariants <= found(report) else f"{name}: {report.text}"

    texts = await asyncio.gather(*(missed(*row) for row in PLANTED.items()))
    assert not [text for text in texts if text]


async def test_a_ghost_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission that its sender was told had failed."""
    appended = Load._appended  # noqa: SLF001 - where a fault would be

    async def denied(self: Load, token: str, job_id: str, *arguments: Any, **options: Any) -> Answer:
        await appended(self, token, job_id, *arguments, **options)
        return Answer.REFUSED if job_id.endswith("0") or not self.submissions else Answer.TAKEN

    monkeypatch.setattr(Load, "_appended", denied)
    report = await run(msgspec.structs.replace(SMALL, **CLEAN), [])
    assert found(report) == {"I2"}, report.text


async def test_an_ack_that_hits_another_job_is_seen() -> None:
    """Two runners with one job each: the one that waits with its acknowledgement receives nothing."""
    plan = msgspec.structs.replace(SMALL, jobs=5, queues=1, capacity=1, steady=20, bound=60)
    renumber = [Fault(at=0, kind="work renumber", target=0, length=0)]
    stale, late = await asyncio.gather(
        planted(plan, "eager,unchecked ack,late ack", renumber), planted(plan, "eager,late ack", renumber)
    )
    assert "I1" in found(stale), stale.text
    assert "I1" not in found(late), late.text


async def test_a_run_of_a_deleted_job_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.jobs._FATES", {"delete": 1})
    plan = msgspec.structs.replace(SMALL, steady=0.0, jobs=16, queues=1, apis=1, settle=20)
    report = await planted(plan, "runs deleted")
    assert "I9" in found(report), report.text


def hit(kind: str, length: float = 0.0) -> list[Fault]:
    """Whoever runs the first job."""
    return [Fault(at=0, kind=kind, target=-1, length=length)]


LEASES = [
    ("eager,no fence", hit("partition stall", 18)),
    ("eager,no watchdog", hit("runner pause", 18)),
    ("eager,heartbeats believed,taken at once", hit("consumer delete")),
    ("eager,no takeover", hit("partition stall", 12)),
]


async def test_a_second_holder_of_a_queue_is_seen() -> None:
    """Side by side, for they mostly wait."""
    reports = await asyncio.gather(*(planted(LONG, name, faults) for name, faults in LEASES))
    missed = [(report.plan.plant, report.text) for report in reports if "I1" not in found(report)]
    assert not missed


@pytest.mark.parametrize("kind", ["partition stall", "runner pause", "consumer churn", "runner and nats kill"])
async def test_with_nothing_planted_nothing_is_seen(kind: str) -> None:
    report = await planted(msgspec.structs.replace(LONG, **CLEAN), "eager", hit(kind, 18))
    assert not report.violations, report.text
