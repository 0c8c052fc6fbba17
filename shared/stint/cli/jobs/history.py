"""`stint history`: what happened to a job, and what took how long."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from itertools import pairwise
from typing import Final

import typer

from stint.cli.calling import PartOfJobId, asking, find
from stint.cli.jobs.ls import outcome
from stint.cli.show.form import Form, show_all
from stint.cli.show.terminal import printable
from stint.client import Client, Fact, JobHandle, JobInfo, JobResult

app = typer.Typer(add_completion=False)

QUIET: Final = 0.5
"""Seconds of silence after which a running job's stream has told all that has happened so far."""
GAPS: Final[Mapping[tuple[str, str], str]] = {
    ("submitted", "started"): "waited in its queue",
    ("submitted", "ended"): "waited in its queue, and never started",
    ("submitted", "kill_requested"): "waited in its queue",
    ("started", "launched"): "was prepared: its secrets, its image, its container",
    ("started", "ended"): "was prepared, and never ran",
    ("started", "kill_requested"): "was being prepared",
    ("started", "held"): "was being prepared, until its runner was lost",
    ("launched", "ended"): "ran",
    ("launched", "kill_requested"): "ran",
    ("kill_requested", "ended"): "was being stopped",
    ("launched", "held"): "ran, until its runner was lost",
    ("held", "released"): "held its queue",
    ("held", "ended"): "held its queue, until its runner was back",
}
"""What a job did between two events."""
_NOW: Final = {
    "submitted": "waits in its queue",
    "started": "is being prepared",
    "launched": "runs",
    "kill_requested": "is being stopped",
    "held": "holds its queue: its runner is lost",
}


@app.command(no_args_is_help=True)
@asking
async def history(stint: Client, job: PartOfJobId, form: Form = "table") -> None:
    """Show what has happened to a job as a timeline, with what it did in between and for how long.

    Example: `stint history 65f0c2a19b3e4d5f6a7b8c9d -o json | jq -r .kind`
    """
    facts, result = await _read(await find(stint, job))
    if form in {"json", "name"}:
        show_all(facts, (), form, name=lambda fact: fact.kind)
        return
    for line in timeline(facts, result):
        typer.echo(line)


async def _read(job: JobHandle) -> tuple[list[Fact], JobInfo | None]:
    facts: list[Fact] = []
    over = (await job.info()).ended  # then nothing is left to happen: its end comes, however late
    async with aclosing(job.stream(tail=0)) as items:
        while True:
            try:
                async with asyncio.timeout(QUIET if facts and not over else None):
                    item = await anext(items)
            except TimeoutError:
                return facts, None
            if isinstance(item, Fact):
                facts.append(item)
            elif isinstance(item, JobResult):
                return facts, item


def timeline(facts: Sequence[Fact], result: JobInfo | None) -> list[str]:
    """A line for each event, and one for what the job did until the next."""
    lines = []
    for before, fact in pairwise([None, *facts]):
        if before and fact:
            took = (fact.at - before.at).total_seconds()
            lines.append(f"{took:>12.3f} s  {GAPS.get((before.kind, fact.kind), '')}".rstrip())
        if fact:
            at = f"{fact.at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
            lines.append(printable(f"{at}  {fact.kind:<15}{_words(fact, result)}").rstrip())
    if facts and result is None:
        lines.append(f"{'':>12}    {_NOW.get(facts[-1].kind, '')}")
    return lines


def _words(fact: Fact, result: JobInfo | None) -> str:
    match fact.kind:
        case "started":
            return f"on {fact.runner}"
        case "launched":
            return f"{fact.image}, container {fact.container_id[:12]}"
        case "ended" if result:
            return f"{outcome(result)}{f': {fact.error}' if fact.error else ''}"
    return f"by {fact.by}" if fact.by else ""
