"""What a benchmark gives: rows of two measurements, taken alternately, so that a busy machine disturbs both alike."""

import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
Work = Callable[[], Awaitable[object]]


class NotMeasuredError(Exception):
    """A group cannot be measured on this machine; the message is a sentence that says why."""


@dataclass(frozen=True)
class Measured:
    """One thing, measured several times.

    Attributes:
        what: a few words for the table.
        unit: of the values, such as `ms` or `jobs/s`.
        values: at least one.
    """

    what: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{shown(self.median)} {self.unit}"
        low, high = (shown(percentile(self.values, percent)) for percent in (10, 90))
        return f"{shown(self.median)} {self.unit} ({low} to {high})"


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which that many percent of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def shown(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


@dataclass(frozen=True)
class Goal:
    """A bound for a row: of its ratio, or of the measured median where `unit` is given."""

    bound: float
    unit: str = ""
    at_least: bool = False

    def met(self, row: "Row") -> bool:
        """Whether the row keeps to it."""
        value = row.measured.median if self.unit else row.ratio
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}{f' {self.unit}' if self.unit else 'x'}"


@dataclass(frozen=True)
class Size:
    """What a row was measured with. Rows of one resource with different counts are what the model is made of."""

    resource: str
    thing: str
    count: int


@dataclass(frozen=True)
class Row:
    """One line of the table: what Stint takes, beside what the same work takes without it."""

    name: str
    measured: Measured
    beside: Measured | None = None
    goals: Sequence[Goal] = field(default=())
    size: Size | None = None

    @property
    def ratio(self) -> float:
        """Measured by beside; not a number without anything beside it."""
        return self.measured.median / self.beside.median if self.beside else float("nan")


def alone(name: str, unit: str, values: Sequence[float], *goals: Goal) -> Row:
    """What Stint takes, with nothing beside it."""
    return Row(name, Measured("Stint", unit, values), None, goals)


def compared(name: str, unit: str, values: Sequence[float], what: str, others: Sequence[float], *goals: Goal) -> Row:
    """What Stint takes, beside the values of something else in the same unit."""
    return Row(name, Measured("Stint", unit, values), Measured(what, unit, others), goals)


def sized(resource: str, unit: str, values: Sequence[float], count: int, thing: str) -> Row:
    """A row for the model: what so many of a thing cost."""
    size = Size(f"{resource}, {unit}", thing, count)
    return Row(f"{resource}, {count:,} {thing}", Measured("Stint", unit, values), size=size)


async def timed(work: Work) -> float:
    """Milliseconds that it takes."""
    start = time.perf_counter()
    await work()
    return (time.perf_counter() - start) * 1000


async def alternately(first: Work, second: Work, times: int) -> tuple[list[float], list[float]]:
    """Milliseconds of both, one after the other, that many times; the first pair is a warm-up."""
    pairs = [(await timed(first), await timed(second)) for _ in range(times + 1)][1:]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def cpu_of(*pids: int) -> float:
    """Milliseconds of CPU that these processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * 1000 / TICKS


def machine_cpu() -> float:
    """Milliseconds of CPU that everything on this machine has used, on all cores together."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        user, nice, system, _idle, _waiting, *interrupts = (int(ticks) for ticks in file.readline().split()[1:8])
    return (user + nice + system + sum(interrupts)) * 1000 / TICKS


def memory_of(pid: int) -> float:
    """MB of memory that the process holds now."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def children_of(pid: int) -> list[int]:
    """The processes that this one has started."""
    return [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]


def disk_of(folder: Path) -> float:
    """MB that the files in a folder take on the disk."""
    return sum(path.stat().st_blocks for path in folder.rglob("*") if path.is_file()) / 2048
