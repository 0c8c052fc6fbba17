"""One run: a world, its load, its faults, and what the checker says."""

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from stint.core.events import Ended
from tests.chaos import collect
from tests.chaos.checker import check
from tests.chaos.evidence import Evidence, Violation
from tests.chaos.follow import Follower
from tests.chaos.inject import inject
from tests.chaos.load import Load
from tests.chaos.plan import Plan
from tests.chaos.schedule import Fault, schedule
from tests.chaos.world import World, world
from tests.support.waiting import meanwhile

SHOWN: Final = 40
"""Violations that a report spells out."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run."""

    plan: Plan
    evidence: Evidence
    violations: Sequence[Violation]
    seconds: float
    exits: Sequence[str] = ()

    @property
    def text(self) -> str:
        """For a terminal."""
        faults = [fault.kind for fault in self.evidence.faults]
        answers = [item.answer for item in self.evidence.submissions]
        ended = [record.event for record in self.evidence.records if isinstance(record.event, Ended)]
        ends = [f"{event.status} {event.reason}".strip() for event in ended]
        invariants = [violation.invariant for violation in self.violations]
        lines = [
            f"seed {self.plan.seed}, {self.plan.engine} engine, {self.plan.servers} NATS, {self.seconds:.0f} s",
            f"faults: {len(faults)} ({_counted(faults)})",
            f"jobs: {len(self.evidence.submissions)} ({_counted(answers)}); ends: {_counted(ends)}",
            f"exits by themselves: {', '.join(self.exits) or 'none'}",
            *(f"  {item.invariant} {item.subject}: {item.sentence}" for item in self.violations[:SHOWN]),
            f"violations: {len(self.violations)}" + (f" ({_counted(invariants)})" if invariants else ""),
        ]
        return "\n".join(lines)


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in Counter(names).most_common())


def faults_of(plan: Plan) -> list[Fault]:
    """The plan's schedule. It leaves the services a moment to start."""
    seconds, lease, sizes = plan.seconds - 2, plan.lease, plan.sizes
    made = schedule(plan.seed, seconds=seconds, faults=plan.faults, lease=lease, sizes=sizes, kinds=plan.kinds)
    return [msgspec.structs.replace(fault, at=fault.at + 2) for fault in made]


async def run(plan: Plan, faults: Sequence[Fault] | None = None) -> Report:
    """Carry a plan out, with its own schedule or another."""
    start = asyncio.get_running_loop().time()
    with _folder(plan) as folder:
        async with world(plan, folder) as made:
            evidence = await _evidence(made, faults_of(plan) if faults is None else faults)
            exits = [f"{one.name} {code} x{times}" for one in made.services for code, times in one.exits.items()]
        seconds = asyncio.get_running_loop().time() - start
        report = Report(plan=plan, evidence=evidence, violations=check(evidence), seconds=seconds, exits=exits)
        if plan.keep:
            (folder / "evidence.json").write_bytes(msgspec.json.encode(evidence))
            (folder / "report.txt").write_text(f"{report.text}\n", encoding="utf-8")
    return report


@contextlib.contextmanager
def _folder(plan: Plan) -> Iterator[Path]:
    if plan.keep:
        folder = Path(plan.keep).absolute()
        folder.mkdir(parents=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="stint-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # jobs in containers are not root
        yield folder


async def _evidence(made: World, faults: Sequence[Fault]) -> Evidence:
    plan, load, follower = made.plan, Load(made), Follower(made.broker)
    async with meanwhile(follower.run(load)):
        async with asyncio.TaskGroup() as group:
            injecting = group.create_task(inject(made, faults))
            group.create_task(load.run())
        await follower.until_all_ended(plan.patience)
        await collect.worked_off(made)
    await load.close()
    await made.fleet.aclose()
    await follower.catch_up()
    injected = injecting.result()
    excused = collect.excused_tokens(follower.jobs, injected, plan.lease)
    left = await collect.settled(made, excused)
    await follower.catch_up()
    views = await collect.settled_views(made, follower.jobs)
    await collect.rebuild(made)
    return Evidence(
        submissions=load.submissions,
        truth=collect.truth(made.truth),
        records=follower.records,
        views=views,
        rebuilt=await collect.views(made.broker),
        output=await collect.output(made.broker),
        left=left,
        faults=injected,
        patience=plan.patience,
        servers=plan.servers,
    )
