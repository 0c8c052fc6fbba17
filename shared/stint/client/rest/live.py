"""Live streams of Server-Sent Events."""

import io
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import msgspec

from stint.client.rest.connection import parsed


class LiveEvent(msgspec.Struct, frozen=True):
    """An event of a live stream. With `position` the stream can be resumed after it."""

    name: str
    data: Mapping[str, Any]
    position: str


async def lines_of(blocks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The lines of a live stream. They are UTF-8, whatever its `Content-Type` says."""
    line = bytearray()
    async for block in blocks:
        for part in io.BytesIO(block):
            line += part
            if part.endswith(b"\n"):
                yield line.decode(errors="replace").rstrip("\r\n")
                line.clear()


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
