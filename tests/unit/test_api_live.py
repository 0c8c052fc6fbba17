import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from stint.errors import BrokerUnavailableError
from stint.eventlog import Chunk
from stint.events import Record
from stint.job import Job
from stint.testing import MemoryEventLog, MemoryOutput
from stint_api import live
from stint_api.inbox import SIZE, Inbox
from stint_api.live import LiveJob, Position
from tests import events

ID = "0" * 24


class DeafLog(MemoryEventLog):
    """Accepts facts, and can lose what it says of them, or be away."""

    deaf = False
    away = False

    @asynccontextmanager
    async def follow(self, job_id: str) -> AsyncIterator[AsyncIterator[Record]]:
        async with super().follow(job_id) as records:
            yield (record async for record in records if not self.deaf)

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
        if self.away:
            raise BrokerUnavailableError
        return await super().load(job_id, at_least=at_least)


class DeafOutput(MemoryOutput):
    """Likewise, by the numbers of the chunks."""

    lost: frozenset[int] = frozenset()

    @asynccontextmanager
    async def tail(self, token: str, job_id: str) -> AsyncIterator[AsyncIterator[Chunk]]:
        async with super().tail(token, job_id) as chunks:
            yield (chunk async for chunk in chunks if chunk.number not in self.lost)


class Writer:
    """A runner's side of one job."""

    def __init__(self) -> None:
        self.log, self.output = DeafLog(), DeafOutput()
        self._number = self._sequence = 0

    async def facts(self, *facts: Any) -> None:
        for fact in facts:
            await self.log.append(events.TOKEN, ID, fact)

    async def write(self, data: bytes, stream: str = "stdout") -> None:
        self._number += 1
        digest = hashlib.sha256(data).hexdigest()
        chunk = Chunk(number=self._number, offset=0, stream=stream, digest=f"{self._number}{digest}", data=data)
        self._sequence = await self.output.append(events.TOKEN, ID, chunk, after=self._sequence)

    async def stream(self, position: str = "") -> "LiveJob":
        job = await self.log.load(ID)
        assert job is not None
        return LiveJob(self.log, self.output, job, Position.parse(position), render=lambda job: {"status": job.state})


@pytest.fixture
async def writer() -> Writer:
    writer = Writer()
    await writer.facts(events.submitted())
    return writer


class Reader:
    """Reads encoded events one by one; pings are passed over."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self.position = ""

    async def next(self) -> Any:
        while True:
            raw = (await anext(self._stream)).decode()
            if not raw.startswith(":"):
                break
        fields = dict(line.split(": ", 1) for line in raw.strip().split("\n"))
        self.position = fields["id"]
        data = json.loads(fields["data"])
        match fields["event"]:
            case "output":
                return base64.b64decode(data["data"])
            case "fact":
                return data["kind"]
            case name:
                return name, data

    async def rest(self) -> list[Any]:
        found = []
        try:
            while True:
                found.append(await self.next())
        except StopAsyncIteration:
            return found


async def test_all_so_far_and_then_what_comes(writer: Writer) -> None:
    await writer.facts(events.started())
    await writer.write(b"one")
    async with aclosing((await writer.stream()).events(asyncio.Event())) as stream:
        reader = Reader(stream)
        assert [await reader.next() for _ in range(3)] == ["submitted", "started", b"one"]
        await writer.write(b"\xfftwo", "stderr")
        assert await reader.next() == b"\xfftwo"
        await writer.write(b"three")
        await writer.facts(events.ended())
        assert await reader.rest() == [b"three", "ended", ("end", {"status": "success"})]


async def test_an_ended_job_is_told_at_once(writer: Writer) -> None:
    await writer.write(b"one")
    await writer.facts(events.started(), events.ended("failed", return_code=3))
    reader = Reader((await writer.stream()).events(asyncio.Event()))
    assert await reader.rest() == ["submitted", "started", b"one", "ended", ("end", {"status": "failed"})]


@pytest.mark.parametrize("cut", range(1, 6))
async def test_a_stream_is_taken_up_where_it_broke(writer: Writer, cut: int) -> None:
    await writer.write(b"one")
    await writer.write(b"two")
    await writer.facts(events.started(), events.ended())
    whole = await Reader((await writer.stream()).events(asyncio.Event())).rest()
    async with aclosing((await writer.stream()).events(asyncio.Event())) as stream:
        first = Reader(stream)
        begun = [await first.next() for _ in range(cut)]
    rest = await Reader((await writer.stream(first.position)).events(asyncio.Event())).rest()
    assert begun + rest == whole


async def test_a_lost_chunk_is_read_from_the_log(writer: Writer) -> None:
    writer.output.lost = frozenset({1, 2})
    async with aclosing((await writer.stream()).events(asyncio.Event())) as stream:
        reader = Reader(stream)
        assert await reader.next() == "submitted"
        for data in (b"one", b"two", b"three"):
            await writer.write(data)
        assert [await reader.next() for _ in range(3)] == [b"one", b"two", b"three"]


async def test_lost_news_of_the_end_is_found(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "TICK", 0.01)
    writer.log.deaf = True
    writer.output.lost = frozenset({1})
    async with aclosing((await writer.stream()).events(asyncio.Event())) as stream:
        reader = Reader(stream)
        assert await reader.next() == "submitted"
        writer.log.away = True
        assert (await anext(stream)).startswith(b":")  # only a ping while the log is away
        await writer.write(b"last")
        await writer.facts(events.started(), events.ended())
        writer.log.away = False
        assert await reader.rest() == ["started", b"last", "ended", ("end", {"status": "success"})]


async def test_a_slow_reader_misses_nothing(writer: Writer) -> None:
    async with aclosing((await writer.stream()).events(asyncio.Event())) as stream:
        reader = Reader(stream)
        assert await reader.next() == "submitted"
        sent = [str(number).encode() for number in range(5 * SIZE)]
        for data in sent:
            await writer.write(data)
            await asyncio.sleep(0)
        await writer.facts(events.started(), events.ended())
        told = await reader.rest()
    assert [item for item in told if isinstance(item, bytes)] == sent
    assert told[-1] == ("end", {"status": "success"})


async def test_the_server_may_end_first(writer: Writer) -> None:
    closing = asyncio.Event()
    async with aclosing((await writer.stream()).events(closing)) as stream:
        reader = Reader(stream)
        assert await reader.next() == "submitted"
        closing.set()
        assert await reader.rest() == []


async def test_a_stranger_in_another_queue_changes_nothing(writer: Writer) -> None:
    async with aclosing((await writer.stream()).events(asyncio.Event())) as stream:
        reader = Reader(stream)
        assert await reader.next() == "submitted"
        await writer.log.append("mfra", ID, events.ended("failed"))
        await writer.facts(events.started(), events.ended())
        assert await reader.rest() == ["started", "ended", ("end", {"status": "success"})]


@pytest.mark.parametrize("text", ["", "x", "1-2", "1-2-3-4", "-1-2-3", "1-2-\u00b2", "1-2-" + "9" * 30])
def test_no_position_is_the_beginning(text: str) -> None:
    assert Position.parse(text) == Position()


def test_a_position_survives_its_text() -> None:
    assert Position.parse(str(Position(1, 22, 333))) == Position(1, 22, 333)


async def test_a_box_says_when_it_dropped_something() -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(SIZE + 3):
            yield number
        filled.set()

    filled = asyncio.Event()
    box: Inbox[int] = Inbox()
    async with box.filled_from(source(), until=asyncio.Event()):
        await filled.wait()
        assert [await box.get(1) for _ in range(SIZE)] == list(range(SIZE))
        async with asyncio.timeout(1):
            assert await box.get(60) is None  # at once: some are missing
        assert await box.get(0.01) is None
