"""What a benchmark gives: rows of two measurements, taken alternately, so that a busy machine disturbs both alike."""

import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")


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

    def percentile(self, percent: float) -> float:
        """The value below which that many percent of the values lie."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{_shown(self.median)} {self.unit}"
        return f"{_shown(self.median)} {self.unit} ({_shown(self.percentile(10))} to {_shown(self.percentile(90))})"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


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
class Row:
    """One line of the table: what Stint takes, beside what the same work takes without it."""

    name: str
    measured: Measured
    beside: Measured | None = None
    goals: Sequence[Goal] = field(default=())

    @property
    def ratio(self) -> float:
        """Measured by beside; not a number without anything beside it."""
        return self.measured.median / self.beside.median if self.beside else float("nan")


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds that it takes."""
    start = time.perf_counter()
    await work()
    return (time.perf_counter() - start) * 1000


async def alternately(
    first: Callable[[], Awaitable[object]], second: Callable[[], Awaitable[object]], times: int
) -> tuple[list[float], list[float]]:
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


def memory_of(pid: int) -> float:
    """MB of memory that the process holds now."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
