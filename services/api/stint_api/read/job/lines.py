"""Where an answer with a job's events and output begins, and how far its client has read."""

import re
from dataclasses import dataclass
from typing import Final

from stint.core.output.chain import Chunk
from stint.core.output.lines import last_line
from stint.ports import OutputLog, Place

_POSITION: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}-[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where an answer with output begins. `line` is the first line that it shows, 0 for whatever there is.

    `after` is the sequence in LOGS of the last chunk before it, `number` that chunk's own.
    """

    after: int = 0
    number: int = 0
    line: int = 0


async def beginning(output: OutputLog, place: Place, *, tail: int | None, from_line: int | None) -> Beginning:
    """Where the last `tail` lines begin, or the line with this number; the output's beginning if both are None.

    Behind the present end if there is no such line yet. The output's beginning, too, if its lines were not counted.
    """
    if tail is None and from_line is None:
        return Beginning()
    last = await output.last(*place)
    if last is None or not last.line:
        return Beginning()
    newest = last_line(last, last.data)
    line = max(1, newest - tail + 1 if tail is not None else from_line or 1)
    if line > newest:
        return Beginning(last.sequence, last.number)
    chunk = last if last.line <= line else await _search(output, place, line, before=last.sequence)
    return Beginning(chunk.sequence - 1, chunk.number - 1, line) if chunk else Beginning()


async def _search(output: OutputLog, place: Place, line: int, *, before: int) -> Chunk | None:
    """The last chunk that has no line behind this one before it: that one begins in it. By bisection over LOGS."""
    found: Chunk | None = None
    low, high = 0, before - 1
    while low < high:
        middle = (low + high) // 2
        chunk = await _counted(output, place, after=middle)
        if chunk is None or chunk.sequence > high or chunk.line > line:
            high = middle
        else:
            found, low = chunk, chunk.sequence
    return found


async def _counted(output: OutputLog, place: Place, *, after: int) -> Chunk | None:
    """The next chunk with a line. Others were written by a stranger."""
    chunk = await output.next(*place, after=after)
    while chunk is not None and not chunk.line:
        chunk = await output.next(*place, after=chunk.sequence)
    return chunk


@dataclass(frozen=True, slots=True)
class Position:
    """How far a client has read, as the `id` of its last event says.

    `fact` is the sequence of the last fact in EVENTS, `output` that of the last chunk in LOGS, `number` its own.
    """

    fact: int = 0
    output: int = 0
    number: int = 0

    def __str__(self) -> str:
        return f"{self.fact}-{self.output}-{self.number}"

    @classmethod
    def before(cls, beginning: Beginning) -> "Position":
        """Of a client that wants all facts, and the output from there on."""
        return cls(output=beginning.after, number=beginning.number)

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Any other text is the beginning."""
        return cls(*map(int, text.split("-"))) if _POSITION.fullmatch(text) else cls()
