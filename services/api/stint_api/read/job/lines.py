"""Where an answer with a job's events and output begins, and how far its client has read."""

import re
from dataclasses import dataclass
from typing import Final

from stint.core.output.chain import Chunk
from stint.core.output.lines import last_line
from stint.ports import OutputLog, Place

_POSITION: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}-[0-9]{1,19}")


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
    def parse(cls, text: str) -> "Position":
        """Any other text is the beginning."""
        return cls(*map(int, text.split("-"))) if _POSITION.fullmatch(text) else cls()


async def beginning(
    output: OutputLog, place: Place, *, tail: int | None, from_line: int | None
) -> tuple[Position, int]:
    """Where the last `tail` lines begin, or the line with this number: the position before it, and that line's number.

    The output's beginning if both are None, or if its lines were not counted; the present end if there is no such line
    yet. The number is 0 then, for whatever comes.
    """
    if tail is None and from_line is None:
        return Position(), 0
    last = await output.last(*place)
    if last is None or not last.line:
        return Position(), 0
    newest = last_line(last, last.data)
    line = max(1, newest - tail + 1 if tail is not None else from_line or 1)
    if line > newest:
        return Position(output=last.sequence, number=last.number), 0
    chunk = last if last.line <= line else await _search(output, place, line, before=last.sequence)
    if chunk is None:
        return Position(), 0
    return Position(output=chunk.sequence - 1, number=chunk.number - 1), line


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
