"""The numbers of an output's lines: counted from 1 over both streams, in the order in which the lines begin."""

from typing import NamedTuple

from stint.core.output.chain import Chunk


class Begun(NamedTuple):
    """Which lines begin in a chunk; see `Chunk.line` and `Chunk.continues`."""

    line: int
    continues: bool


class Lines:
    """Counts the lines of an output, chunk by chunk. A line begins with its first byte, each stream has its own.

    `count` is how many have begun so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._open: set[str] = set()

    def next(self, stream: str) -> Begun:
        """What the next chunk of this stream says of its lines."""
        return Begun(self.count + 1, stream in self._open)

    def add(self, stream: str, data: bytes) -> None:
        """Count the lines of the next chunk."""
        self.count = last_line(self.next(stream), data)
        if data:
            (self._open.discard if data.endswith(b"\n") else self._open.add)(stream)


def last_line(begun: Begun | Chunk, data: bytes) -> int:
    """The number of the last line that has begun up to this chunk's end."""
    first = bool(data) and not begun.continues
    return begun.line - 1 + first + data.count(b"\n") - data.endswith(b"\n")


def start_of(chunk: Chunk, line: int) -> int:
    """Where in the chunk's data this line begins; 0 if it began before, the data's length if it begins later."""
    at = 0
    for _ in range(line - chunk.line + chunk.continues):
        at = chunk.data.find(b"\n", at) + 1
        if not at:
            return len(chunk.data)
    return at
