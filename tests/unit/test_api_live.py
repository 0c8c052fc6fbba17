import asyncio
import base64
import json
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest

from stint.core.errors import BrokerUnavailableError
from stint.core.job import Job
from stint.core.output.chain import Chunk
from stint.core.phase import JobPhase
from stint.ports import News, Place
from stint.process.background import cancel
from stint.testing import MemoryEventLog, MemoryOutput, MemoryPhases
from stint_api.read.job import followed, live
from stint_api.read.job.followed import SHARED, FollowedJobs
from stint_api.read.job.lines import Position
from stint_api.read.job.live import LiveJob
from stint_api.read.job.output import SETTLE_TRIES
from stint_api.read.phases import Phases
from stint_api.routes import documents
from tests.support import events
from tests.support.outputs import Writer
from tests.support.waiting import meanwhile

ID = "0" * 24
FORGED = 10**18


class Log(MemoryEventLog):
    """Can keep what it accepted to itself, lag behind by an event for as many loads, or be away. Counts its loads."""

    deaf = away = False
    loads = lags = least = 0

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()

    @asynccontextmanager
    async def follow(self, job_id: str) -> AsyncIterator[News]:
        async with super().follow(job_id) as changed:
            self.changed = changed
            yield News() if self.deaf else changed

    async def load(self, job_id: str, *, at_least: int = 0) -> Job | None:
        self.loads, self.least = self.loads + 1, at_least
        records = self.records
        self.records = records[:-1] if self.lags else records
        self.lags -= self.lags > 0
        loaded = await super().load(job_id, at_least=at_least)
        self.records = records
        await self.answers.wait()
        if self.away:
            raise BrokerUnavailableError
        return loaded


class Output(MemoryOutput):
    """Likewise, by the last chunk. It counts its reads, and how often it is asked for the last chunk."""

    deaf = away = False
    lags = reads = lasts = padding = subscriptions = 0

    @asynccontextmanager
    async def follow(self, token: str, job_id: str) -> AsyncIterator[News]:
        async with super().follow(token, job_id) as changed:
            self.changed = changed
            self.subscriptions += 1
            try:
                yield News() if self.deaf else changed
            finally:
                self.subscriptions -= 1

    async def last(self, token: str, job_id: str) -> Chunk | None:
        self.lasts += 1
        return await super().last(token, job_id)

    async def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        self.reads += 1
        if self.away:
            raise BrokerUnavailableError
        last = await super().last(token, job_id)
        behind = self.lags > 0
        self.lags -= behind
        async for chunk in super().read(token, job_id, after=after):
            if not (behind and chunk == last):
                yield msgspec.structs.replace(chunk, data=chunk.data + bytes(self.padding)) if self.padding else chunk


class Runner:
    """A runner's side of one job."""

    def __init__(self) -> None:
        self.log, self.output = Log(), Output()
        self.followed = FollowedJobs(self.log, self.output)
        self.channel = MemoryPhases()
        self.phases = Phases(self.channel, connected=asyncio.Event().wait)
        self.writer = Writer(self.output, events.TOKEN, ID)
        self.write = self.writer.write

    async def facts(self, *facts: Any) -> None:
        for fact in facts:
            await self.log.append(events.TOKEN, ID, fact)

    async def end(self, status: str = "success", **fields: Any) -> None:
        await self.facts(self.writer.counted(events.ended(status, **fields)))

    async def stream(self, position: str = "", closing: asyncio.Event | None = None) -> AsyncGenerator[bytes, None]:
        job = await self.log.load(ID)
        assert job is not None
        position_of = Position.parse(position)
        live = LiveJob(self.followed, self.output, self.phases, job, position_of, render=documents.last_seen)
        return live.events(closing or asyncio.Event())

    @asynccontextmanager
    async def reader(self) -> AsyncIterator["Reader"]:
        """Of a stream that has told of the submission."""
        async with aclosing(await self.stream()) as stream:
            reader = Reader(stream)
            assert await reader.next() == "submitted"
            yield reader

    @asynccontextmanager
    async def reader_of_one(self) -> AsyncIterator["Reader"]:
        """Of a stream that has told of the job's start, too, and of `one`, which it wrote.

        While the job waits it is not asked for output: that would be told before the start.
        """
        async with self.reader() as reader:
            await self.facts(events.started())
            await self.write(b"one")
            assert [await reader.next() for _ in range(2)] == ["started", b"one"]
            yield reader

    async def told(self, position: str = "") -> list[Any]:
        return await Reader(await self.stream(position)).rest()


@pytest.fixture
async def runner() -> Runner:
    runner = Runner()
    await runner.facts(events.submitted())
    return runner


class Reader:
    """Reads encoded events one by one; pings are passed over."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self.stream = stream
        self.position = ""

    async def next(self) -> Any:
        while True:
            raw = (await anext(self.stream)).decode()
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
            case "phase":
                return data
            case name:
                return name, data["status"], data["output_complete"]

    async def rest(self) -> list[Any]:
        found = []
        try:
            while True:
                found.append(await self.next())
        except StopAsyncIteration:
            return found


async def test_what_was_read_for_all_is_not_kept_until_the_next_look(runner: Runner) -> None:
    """However much there is: a follower who has heard nothing yet reads it by pieces that all share."""
    place, size = Place(events.TOKEN, ID), 64 * 1024
    async with runner.followed.follow(place) as job:
        assert not [chunk async for chunk in job.chunks(0)]  # from here on reads are shared
        for _ in range(200):
            await runner.write(b"x")
        runner.output.padding = size
        tracemalloc.start()
        try:
            read = sum([len(chunk.data) async for chunk in job.chunks(0)])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert read >= 200 * size
    assert peak < 4 * SHARED


async def test_what_is_done_for_a_running_job_is_told_when_it_changes(runner: Runner) -> None:
    runner.phases = Phases(runner.channel, connected=partial(asyncio.sleep, 0))
    place = Place(events.TOKEN, ID)
    async with meanwhile(runner.phases.run()), runner.reader() as reader:
        await runner.channel.heard.wait()
        await runner.channel.tell(place, JobPhase(phase="opening"))  # the job has not started yet
        await runner.facts(events.started())
        assert [await reader.next() for _ in range(2)] == ["started", {"phase": "opening", "progress": None}]
        await runner.channel.tell(place, JobPhase(phase="pulling", progress=0.25))
        assert await reader.next() == {"phase": "pulling", "progress": 0.25}
        await runner.channel.tell(place, JobPhase(phase="pulling", progress=0.25))
        await runner.end()
        assert await reader.rest() == ["ended", ("end", "success", True)]


async def test_an_ended_job_is_told_at_once_and_taken_up_where_the_stream_broke(runner: Runner) -> None:
    await runner.write(b"one")
    await runner.write(b"two")
    await runner.facts(events.started())
    await runner.end("failed", return_code=3)
    whole = await runner.told()
    assert whole == ["submitted", "started", b"one", b"two", "ended", ("end", "failed", True)]
    for cut in range(1, len(whole)):
        async with aclosing(await runner.stream()) as stream:
            first = Reader(stream)
            begun = [await first.next() for _ in range(cut)]
        assert begun + await runner.told(first.position) == whole


async def test_lost_news_is_found(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed, "TICK", 0.01)
    runner.log.deaf = runner.output.deaf = True
    async with runner.reader() as reader:
        runner.log.away = True
        assert (await anext(reader.stream)).startswith(b":")  # only a ping while the log is away
        await runner.write(b"last")
        await runner.facts(events.started())
        await runner.end()
        runner.log.away = False
        assert await reader.rest() == ["started", b"last", "ended", ("end", "success", True)]


async def test_the_end_waits_for_output_that_cannot_be_read_yet(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "SOON", 0.01)
    async with runner.reader() as reader, asyncio.timeout(followed.TICK / 2):
        runner.output.away = True
        await runner.write(b"last")
        await runner.facts(events.started())
        await runner.end()
        assert await reader.next() == "started"
        assert (await anext(reader.stream)).startswith(b":")
        runner.output.away = False
        assert await reader.rest() == [b"last", "ended", ("end", "success", True)]


async def test_the_end_waits_for_a_replica_that_lags(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SETTLE_PAUSE", 0)
    monkeypatch.setattr(followed, "TICK", 0.01)
    for data in (b"one", b"last"):
        await runner.write(data)
    await runner.facts(events.started())
    await runner.end()
    runner.output.lags = SETTLE_TRIES + 3
    assert await runner.told() == ["submitted", "started", b"one", b"last", "ended", ("end", "success", True)]
    assert runner.output.lags == 0


async def test_a_job_without_news_is_not_read_again(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed, "SOON", 0)
    monkeypatch.setattr(followed, "GAP", 0)
    async with runner.reader_of_one() as reader:
        waiting = asyncio.create_task(reader.next())
        loads, reads = runner.log.loads, runner.output.reads
        for _ in range(1000):
            await asyncio.sleep(0)
        assert (runner.log.loads, runner.output.reads) == (loads, reads)
        await runner.write(b"two")
        assert await waiting == b"two"
        assert runner.log.loads == loads
        await runner.end()
        assert await reader.next() == "ended"


async def test_what_was_announced_is_read_until_it_is_there(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """News comes from a stream's leader, and a replica may lag behind."""
    monkeypatch.setattr(followed, "SOON", 0)
    async with runner.reader() as reader, asyncio.timeout(followed.TICK / 2):
        runner.log.lags = 1
        await runner.facts(events.started())
        assert await reader.next() == "started"
        assert runner.log.least == runner.log.records[-1].sequence
        runner.output.lags = 2
        await runner.write(b"one")
        assert await reader.next() == b"one"
        assert (runner.log.lags, runner.output.lags) == (0, 0)


@pytest.mark.parametrize("what", ["log", "output"])
async def test_what_was_stored_right_before_is_found_though_a_replica_lags(runner: Runner, what: str) -> None:
    """Nobody listened when it was announced."""
    await runner.facts(events.started())
    await runner.write(b"one")
    getattr(runner, what).lags = 1
    async with asyncio.timeout(followed.TICK / 2), aclosing(await runner.stream()) as stream:
        reader = Reader(stream)
        assert [await reader.next() for _ in range(3)] == ["submitted", "started", b"one"]


@pytest.mark.parametrize("lagging", ["log", "output"])
async def test_a_look_for_something_else_finds_what_the_one_before_lacked(runner: Runner, lagging: str) -> None:
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "log": lambda: runner.facts(events.kill_requested()),
        "output": lambda: runner.write(b"one"),
    }
    await runner.facts(events.started())
    async with runner.reader() as reader, asyncio.timeout(followed.TICK / 2):
        assert await reader.next() == "started"
        waiting, store = asyncio.create_task(reader.next()), getattr(runner, lagging)
        store.lags = 1
        await acts.pop(lagging)()
        while store.lags:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0)
        for act in acts.values():
            await act()
        assert {await waiting, await reader.next()} == {"kill_requested", b"one"}


async def test_facts_without_news_are_found_while_output_comes(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed, "TICK", 0.05)
    monkeypatch.setattr(followed, "GAP", 0)
    runner.log.deaf = True
    async with runner.reader() as reader, asyncio.timeout(10):
        await runner.facts(events.started())
        told = asyncio.create_task(reader.next())
        while not told.done():
            await runner.write(b"x")
            await asyncio.sleep(0)
        assert told.result() == "started"
        await runner.facts(events.kill_requested())
        while await reader.next() != "kill_requested":
            await runner.write(b"x")


async def test_who_is_told_nothing_gets_a_ping(runner: Runner) -> None:
    """Also if there was news: anybody may cause it."""
    async with runner.reader() as reader, asyncio.timeout(followed.TICK / 2):
        for _ in range(3):
            pinged = asyncio.ensure_future(anext(reader.stream))
            runner.log.changed.announce(0)
            assert (await pinged).startswith(b":")


@pytest.mark.parametrize("stream", ["log", "output"])
async def test_a_false_announcement_is_forgotten(runner: Runner, monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    """Also while there is other news."""
    monkeypatch.setattr(followed, "TICK", 0.05)
    async with runner.reader() as reader, runner.followed.follow(Place(events.TOKEN, ID)) as job:
        await runner.facts(events.started())
        assert await reader.next() == "started"
        told = asyncio.create_task(reader.next())
        while FORGED not in {runner.log.least, job.chunk.sequence}:
            getattr(runner, stream).changed.announce(FORGED)
            await asyncio.sleep(0)
        while FORGED in {runner.log.least, job.chunk.sequence}:
            await runner.write(b"one")
            assert await told == b"one"
            told = asyncio.create_task(reader.next())
        await runner.end()
        assert await told == "ended"


async def test_output_that_is_whole_is_not_looked_for(runner: Runner) -> None:
    async with runner.reader_of_one() as reader:
        reads = runner.output.reads
        await runner.end()
        assert await reader.rest() == ["ended", ("end", "success", True)]
        assert runner.output.reads == reads
    assert await runner.told() == ["submitted", "started", b"one", "ended", ("end", "success", True)]
    assert runner.output.lasts == 0


async def test_any_number_of_live_messages_is_one_more_look(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed, "SOON", 60)
    async with runner.reader() as reader:
        before = runner.log.loads
        runner.log.answers.clear()
        waiting = asyncio.create_task(reader.next())
        while runner.log.loads == before:
            runner.log.changed.set()
            await asyncio.sleep(0)
        for _ in range(1000):
            runner.log.changed.set()
            await asyncio.sleep(0)
        await runner.facts(events.started())
        runner.log.answers.set()
        assert await waiting == "started"
        assert runner.log.loads == before + 2


async def test_chunks_that_do_not_go_on_where_the_last_one_ended_are_left_out(runner: Runner) -> None:
    await runner.facts(events.started())
    await runner.write(b"one")
    forged = Chunk(number=2, offset=3, stream="stdout", digest="0" * 64, data=b"two")
    last = await runner.output.last(events.TOKEN, ID)
    assert last is not None
    await runner.output.append(events.TOKEN, ID, forged, after=last.sequence)
    await runner.end()
    assert await runner.told() == ["submitted", "started", b"one", "ended", ("end", "success", True)]


async def test_output_that_is_not_what_the_end_says_is_not_whole(runner: Runner) -> None:
    async with runner.reader_of_one() as reader:
        end = runner.writer.counted(events.ended())
        await runner.write(b"by a stranger who knows how to go on")
        await runner.facts(end)
        assert (await reader.rest())[-1] == ("end", "success", False)
    assert (await runner.told())[-1] == ("end", "success", False)


async def test_an_end_that_names_no_output_hides_none(runner: Runner) -> None:
    """Another runner wrote it, which knows nothing of the output."""
    await runner.facts(events.started())
    await runner.write(b"one")
    await runner.facts(msgspec.structs.replace(events.ended("unknown"), output_complete=False))
    assert await runner.told() == ["submitted", "started", b"one", "ended", ("end", "unknown", False)]


@pytest.mark.parametrize("position", ["", f"0-{'9' * 19}-1"])
async def test_all_followers_share_what_is_read(runner: Runner, monkeypatch: pytest.MonkeyPatch, position: str) -> None:
    """Also if one of them names a place that is none."""
    monkeypatch.setattr(followed, "SOON", 60)
    await runner.facts(events.started())
    async with AsyncExitStack() as stack:
        one = Reader(await stack.enter_async_context(aclosing(await runner.stream(position))))
        assert [await one.next() for _ in range(2)] == ["submitted", "started"]
        more = asyncio.create_task(one.next())
        stack.push_async_callback(cancel, more)
        readers = [await stack.enter_async_context(runner.reader()) for _ in range(10)]
        await runner.write(b"first")
        for reader in readers:
            assert [await reader.next() for _ in range(2)] == ["started", b"first"]
        waiting = [asyncio.create_task(reader.next()) for reader in readers]
        before = runner.output.reads
        for data in (b"one", b"two", b"three"):
            await runner.write(data)
            assert await asyncio.gather(*waiting) == [data] * 10
            waiting = [asyncio.create_task(reader.next()) for reader in readers]
        assert runner.output.reads - before < 10, "three lines cost less than a read each"
        before = runner.log.loads
        await runner.end()
        assert await asyncio.gather(*waiting) == ["ended"] * 10
        assert runner.log.loads - before < 10
        for reader in readers:
            assert await reader.rest() == [("end", "success", True)]


async def test_who_comes_later_begins_at_the_beginning(runner: Runner) -> None:
    async with runner.reader_of_one() as first:
        await runner.write(b"two")
        assert await first.next() == b"two"
        async with runner.reader() as second:
            assert [await second.next() for _ in range(3)] == ["started", b"one", b"two"]
            await runner.write(b"three")
            assert [await first.next(), await second.next()] == [b"three"] * 2
    assert runner.output.subscriptions == 0


async def test_a_subscription_that_fails_fails_all(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_job_id: str) -> None:
        raise BrokerUnavailableError

    monkeypatch.setattr(runner.log, "follow", fail)
    for result in await asyncio.gather(*(runner.told() for _ in range(2)), return_exceptions=True):
        assert isinstance(result, BrokerUnavailableError)
    monkeypatch.undo()
    await runner.facts(events.started())
    await runner.end()
    assert (await runner.told())[0] == "submitted"


async def test_the_server_may_end_first(runner: Runner) -> None:
    closing = asyncio.Event()
    async with aclosing(await runner.stream(closing=closing)) as stream:
        reader = Reader(stream)
        assert await reader.next() == "submitted"
        closing.set()
        assert await reader.rest() == []


@pytest.mark.parametrize("text", ["", "x", "1-2", "1-2-3-4", "-1-2-3", "1-2-\u00b2", "1-2-" + "9" * 30])
def test_no_position_is_the_beginning_and_one_survives_its_text(text: str) -> None:
    assert Position.parse(text) == Position()
    assert Position.parse(str(Position(1, 22, 333))) == Position(1, 22, 333)
