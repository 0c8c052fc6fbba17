"""The last lines of a job's output as plain text: what a terminal would do is left out, what could deceive is named."""

import re
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

from stint.core.job import Job
from stint.core.output.chain import Chunk
from stint.core.output.lines import start_of
from stint.ports import OutputLog, Place
from stint_api.page.drawn import words
from stint_api.read.job.lines import beginning
from stint_api.read.job.output import Snapshot, stream_of

MOST: Final = 1_000
"""Lines that are shown at most."""
FEWER: Final = (MOST, 100, 10, 1)
READ_BYTES: Final = 2_000_000
"""Bytes of output that are read for it: if the last lines have more, fewer are shown."""
LONG: Final = 2_000
"""Characters of a line that are shown."""
_SEQUENCES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, movements
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]).*?(?:\x1b\\|[\x07\x9c]|$)"  # OSC, DCS and the like, up to their end
    r"|\x1b[ -/]*[0-~]?"
)
_NAMED: Final = re.compile(f"[\x00-\x08\x0a-\x1f\x7f-\x9f{words.DECEIVING}]")


@dataclass(frozen=True, slots=True)
class Line:
    """A line, whose number all readers of the output see. `more` characters of it are not shown."""

    number: int
    stream: str
    text: str
    more: int


@dataclass(frozen=True, slots=True)
class Text:
    """The last lines. `before`: there are others before them. `too_long`: not even the last one is shown."""

    lines: list[Line]
    before: bool
    too_long: bool = False


@dataclass
class _Lines:
    """Splits chunks into lines, as each stream has them. A line is where it began."""

    found: list[tuple[str, bytearray]] = field(default_factory=list)
    _open: dict[str, bytearray] = field(default_factory=dict)

    def add(self, stream: str, data: bytes, *, continues: bool) -> None:
        """Take a chunk. What continues a line that is not here is left out, up to that line's end."""
        if continues and stream not in self._open:
            self._open[stream] = bytearray()
        for piece in BytesIO(data):
            if stream not in self._open:
                self._open[stream] = bytearray()
                self.found.append((stream, self._open[stream]))
            self._open[stream] += piece.removesuffix(b"\n")
            if piece.endswith(b"\n"):
                del self._open[stream]


async def last_lines(output: OutputLog, job: Job) -> Text:
    """The last lines of what the job has written so far."""
    place = Place(job.token, job.job_id)
    for count in FEWER:
        position, line = await beginning(output, place, tail=count, from_line=None)
        snapshot = await Snapshot.take(output, *place, lenient=True, after=position.output)
        first = await output.next(*place, after=position.output)
        if first is None or snapshot.size - first.offset <= READ_BYTES:
            return await _read(snapshot.chunks(), line, count)
    return Text([], before=True, too_long=True)


async def _read(chunks: AsyncIterable[Chunk], begin: int, count: int) -> Text:
    lines, skip = _Lines(), begin
    async for chunk in chunks:
        at = start_of(chunk, skip) if skip else 0
        lines.add(stream_of(chunk), chunk.data[at:], continues=chunk.continues and not at)
        skip = 0
    numbered = list(enumerate(lines.found, max(1, begin)))[-count:]
    return Text(
        [_line(number, stream, bytes(data)) for number, (stream, data) in numbered],
        before=bool(numbered) and numbered[0][0] > 1,
    )


def _line(number: int, stream: str, data: bytes) -> Line:
    text = plain(data)
    return Line(number, stream, text[:LONG], max(0, len(text) - LONG))


def plain(data: bytes) -> str:
    """A line as text. Of what was written over, only the last stays. Bytes that are no text are shown in hex."""
    text = _SEQUENCES.sub("", data.decode(errors="backslashreplace"))
    text = text.rstrip("\r").rpartition("\r")[2]
    return words.named(text, _NAMED)
