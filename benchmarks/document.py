"""The recorded runs, before and after, and docs/benchmarks.md, which is generated from them."""

import platform
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.measure import Row, shown

FOLDER: Final = Path(__file__).parent
DOCUMENT: Final = FOLDER.parent / "docs" / "benchmarks.md"
TARGETS: Final = {"kept jobs": 1_000_000, "kept jobs with their facts": 1_000_000, "queues": 10_000, "idle runners": 50}
"""The sizes that the model is asked about."""


class Record(StrEnum):
    """Which of the two recorded runs."""

    BEFORE = "before"
    AFTER = "after"

    @property
    def path(self) -> Path:
        """Its file."""
        return FOLDER / f"{self.value}.json"


@dataclass(frozen=True)
class Run:
    """What was measured on one machine: the rows of each group, or a sentence that says why it could not be."""

    machine: str
    groups: Mapping[str, Sequence[Row] | str] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order of the table."""
        return [row for rows in self.groups.values() if not isinstance(rows, str) for row in rows]

    def updated(self, newer: "Run") -> "Run":
        """This run with the groups of a newer one in place of its own; only the newer one if the machines differ."""
        return Run(self.machine, {**self.groups, **newer.groups}) if self.machine == newer.machine else newer


def read(path: Path) -> Run:
    """A run that was written to a file; without a file one without rows."""
    return msgspec.json.decode(path.read_bytes(), type=Run) if path.exists() else Run("")


def write(run: Run, path: Path) -> None:
    """Write a run to a file, each row on a line of its own."""
    path.write_bytes(msgspec.json.encode(run).replace(b'{"name"', b'\n{"name"') + b"\n")


def machine() -> str:
    """The processors and the versions that the figures hold for."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return f"{len(names)} x {names[0] if names else platform.machine()}, Python {platform.python_version()}"


def table(before: Sequence[Row], after: Sequence[Row]) -> str:
    """Both runs side by side, as a Markdown table: all rows of `after`, then those that only `before` has."""
    old, new = {row.name: row for row in before}, {row.name: row for row in after}
    lines = ["| what | before | ratio | after | beside it | ratio | goal |", "|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys([*new, *old]):
        was, now = old.get(name), new.get(name)
        beside = now.beside if now else None
        cells = [
            name,
            str(was.measured) if was else "",
            _ratio(was),
            str(now.measured) if now else "",
            f"{beside.what}: {beside}" if beside else "",
            _ratio(now),
            _goals(now),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(row: Row | None) -> str:
    return f"{row.ratio:.2f}x" if row and row.beside else ""


def _goals(row: Row | None) -> str:
    return ", ".join(f"{goal} {'✓' if goal.met(row) else 'missed'}" for goal in row.goals) if row else ""


def model(run: Run) -> str:
    """What each thing costs, by a straight line through the measured sizes, and what the target sizes add."""
    sizes: defaultdict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for row in run.rows:
        if row.size:
            sizes[row.size.thing, row.size.resource][row.size.count] = row.measured.median
    lines = ["| what | measured | each further one | this many add |", "|---|---|---|---|"]
    for (thing, resource), points in sizes.items():
        if len(points) < 2:  # noqa: PLR2004 - a line needs two points
            continue
        slope = max(0.0, statistics.linear_regression(list(points), list(points.values())).slope)  # less is noise
        found = ", ".join(f"{shown(value)} with {count:,}" for count, value in sorted(points.items()))
        target = TARGETS[thing]
        lines.append(f"| {resource} | {found} {thing} | {slope:.2g} | {target:,} {thing}: {shown(slope * target)} |")
    return "\n".join(lines)


def generated() -> str:
    """The document, whose parts between marks are made from the recorded runs."""
    before, after = read(Record.BEFORE.path), read(Record.AFTER.path)
    parts = {"table": "\n\n".join(_table_part(before, after)), "model": model(after)}
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, part in parts.items():
        marks = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = marks.sub(lambda found, part=part: f"{found[1]}{part}\n{found[2]}", text)  # type: ignore[misc]
    return text


def _table_part(before: Run, after: Run) -> Iterator[str]:
    machines = f"before on {before.machine}" + (f", after on {after.machine}" if after.machine else "")
    yield f"Measured {machines}: medians, with the 10th and the 90th percentile."
    yield from (f"Not measured: `{group}`. {why}" for group, why in after.groups.items() if isinstance(why, str))
    yield table(before.rows, after.rows)
