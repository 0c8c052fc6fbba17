"""Live streams of Server-Sent Events."""

import io
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final

import msgspec

from stint.client.errors import UnexpectedAnswerError
from stint.client.rest.connection import parsed

LONGEST_EVENT: Final = 4 * 1024 * 1024
"""Bytes of one event. What it tells comes from one message of NATS, which takes 1 MiB: at most 1.4 MiB as base64, or
3 MiB if JSON escapes all of its characters."""


class LiveEvent(msgspec.Struct, frozen=True):
    """An event of a live stream. With `position` the stream can be resumed after it."""

    name: str
    data: Mapping[str, Any]
    position: str


async def lines_of(blocks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The lines of a live stream. They are UTF-8, whatever its `Content-Type` says.

    Raises UnexpectedAnswerError if an event is longer than `LONGEST_EVENT`.
    """
    line, size = bytearray(), 0
    async for block in blocks:
        for part in io.BytesIO(block):
            size += len(part)
            if size > LONGEST_EVENT:
                raise UnexpectedAnswerError(f"An event of Stint's stream is longer than {LONGEST_EVENT >> 20} MiB.")
            line += part
            if part.endswith(b"\n"):
                text = line.decode(errors="replace").rstrip("\r\n")
                line.clear()
                size = size if text else 0  # an empty line ends the event
                yield text


async def parse_events(lines: AsyncIterator[str]) -> AsyncGenerator[LiveEvent, None]:
    """Parse lines into Server-Sent Events, without those whose data is no JSON object. A ping is one without a name."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(":")  # of a comment the name is ""
            fields[name] = value.removeprefix(" ")
            continue
        if fields and fields.keys() <= {"", "id"}:
            fields |= {"event": "", "data": "{}"}
        data = parsed(fields.get("data", "").encode())
        if data is not None:
            yield LiveEvent(fields.get("event", "message"), data, fields.get("id", ""))
        fields = {}
