"""Runs the benchmarks, prints a table, and writes it for docs/benchmarks.md."""

import asyncio
import platform
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from benchmarks.measure import Row

GROUPS: Final = ("api", "jobs", "fleet", "live", "kept", "projector", "streams")
DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "benchmarks.md"
MARKS: Final = re.compile("(<!-- table -->\n).*?(<!-- /table -->)", re.DOTALL)


def main(
    only: Annotated[str, typer.Option(help=f"Groups to run, with commas: {', '.join(GROUPS)}.")] = "",
    times: Annotated[int, typer.Option(help="Repetitions; the table shows medians.", min=1)] = 5,
    output: Annotated[Path | None, typer.Option(help="A file for the rows as JSON.")] = None,
    write: Annotated[bool, typer.Option("--write", help=f"Write the table into {DOCUMENT.name}.")] = False,
) -> None:
    """Measure Stint beside the bare work that it is made of."""
    chosen = only.split(",") if only else list(GROUPS)
    if unknown := set(chosen) - set(GROUPS):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}", param_hint="--only")
    found: list[Row] = []
    for group in chosen:
        rows = asyncio.run(import_module(f"benchmarks.{group}").rows(times))
        typer.echo(table(rows))
        found += rows
        if output:
            output.write_bytes(
                msgspec.json.format(msgspec.json.encode({"machine": machine(), "rows": found}), indent=2)
            )
        if write:
            _write(found)


def _write(found: Sequence[Row]) -> None:
    text = f"Measured on {machine()}: medians, with the 10th and the 90th percentile.\n\n{table(found)}\n"
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(MARKS.sub(lambda marks: f"{marks[1]}{text}{marks[2]}", document), encoding="utf-8")


def machine() -> str:
    """The processors and the versions that the figures hold for."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return f"{len(names)} x {names[0] if names else platform.machine()}, Python {platform.python_version()}"


def table(rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = ["| what | Stint | beside it | ratio | goal |", "|---|---|---|---|---|"]
    for row in rows:
        beside = f"{row.beside.what}: {row.beside}" if row.beside else ""
        ratio = f"{row.ratio:.2f}x" if row.beside else ""
        goals = ", ".join(f"{goal} {'✓' if goal.met(row) else 'missed'}" for goal in row.goals)
        lines.append(f"| {row.name} | {row.measured} | {beside} | {ratio} | {goals} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
