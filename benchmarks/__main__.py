"""Runs the benchmarks, prints a table, and records the rows for docs/benchmarks.md."""

import asyncio
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.document import DOCUMENT, Record, Run, generated, machine, read, table, write
from benchmarks.measure import NotMeasuredError, Row

GROUPS: Final = (
    "api", "jobs", "runtime", "peers", "guarantees", "calls", "fleet", "queues", "live", "kept", "projector", "streams",
)  # fmt: skip


def main(
    only: Annotated[str, typer.Option(help=f"Groups to run, with commas: {', '.join(GROUPS)}.")] = "",
    times: Annotated[int, typer.Option(help="Repetitions; the table shows medians.", min=1)] = 5,
    output: Annotated[Path | None, typer.Option(help="A file for the rows as JSON.")] = None,
    record: Annotated[
        Record | None, typer.Option("--write", help="Record the rows as this run, and write docs/benchmarks.md.")
    ] = None,
) -> None:
    """Measure Stint beside the bare work that it is made of."""
    chosen = only.split(",") if only else list(GROUPS)
    if unknown := set(chosen) - set(GROUPS):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}", param_hint="--only")
    run, failed = Run(machine()), False
    old = {row.name: row for row in read(Record.BEFORE.path).rows}
    for group in chosen:
        start = time.monotonic()
        try:
            found: Sequence[Row] | str = asyncio.run(import_module(f"benchmarks.{group}").rows(times))
        except NotMeasuredError as error:
            found = str(error)
        except Exception:  # noqa: BLE001 - the other groups run all the same
            traceback.print_exc()
            failed = True
            continue
        run = Run(run.machine, {**run.groups, group: found})
        typer.echo(f"{group}: {time.monotonic() - start:.0f} s")
        before = [old[row.name] for row in found if not isinstance(row, str) and row.name in old]
        typer.echo(found if isinstance(found, str) else table(before, found))
        if output:
            write(run, output)
        if record:
            write(read(record.path).updated(run), record.path)
            DOCUMENT.write_text(generated(), encoding="utf-8")
    sys.exit(failed)


if __name__ == "__main__":
    # As Ctrl-C, which asyncio turns into a cancellation: raised between any two lines, it left `stint dev` behind.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    typer.run(main)
