"""A job's output as text, within a bound on memory."""

import codecs
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import Final

from stint.eventlog import Chunk

MAX_BYTES: Final = 16 * 1024 * 1024
"""Of output that one answer holds. The event stream has all of it."""

STDERR: Final = "stderr"


@dataclass
class Text:
    """Output put together from chunks. Bytes that are not UTF-8 become U+FFFD.

    A character may be split over chunks, and chunks of the other stream may stand in between: each stream has its own
    decoder. What a terminal writes counts as stdout.
    """

    budget: int = MAX_BYTES
    size: int = 0
    truncated: bool = False
    _parts: list[tuple[str, str]] = field(default_factory=list)
    _decoders: dict[str, codecs.IncrementalDecoder] = field(default_factory=dict)

    async def fill(self, chunks: AsyncIterable[Chunk]) -> "Text":
        """Take chunks up to the budget. What goes beyond it is left out at the end."""
        async for chunk in chunks:
            kept = chunk.data[: self.budget - self.size]
            self._add(chunk.stream, kept)
            if len(kept) < len(chunk.data):
                self.truncated = True
                break
        for stream, decoder in self._decoders.items():
            self._parts.append((stream, decoder.decode(b"", final=True)))
        return self

    def _add(self, stream: str, data: bytes) -> None:
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts.append((stream, decoder.decode(data)))
        self.size += len(data)

    @property
    def both(self) -> str:
        """All of it, as it came."""
        return "".join(text for _, text in self._parts)

    @property
    def stdout(self) -> str:
        """What is not stderr."""
        return "".join(text for stream, text in self._parts if stream != STDERR)

    @property
    def stderr(self) -> str:
        """What is."""
        return "".join(text for stream, text in self._parts if stream == STDERR)
