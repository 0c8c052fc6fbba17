"""What the pump does with a job's output: copying, masking, and the limit."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.errors import BrokerUnavailableError, EngineUnavailableError, LogGapError, LogRotatedError
from stint.core.output.chain import Chunk
from stint.testing import MemoryOutput
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import OutputPiece
from stint_runner.output import copying as copying_module
from stint_runner.output import pump as output
from stint_runner.output.copying import Copying
from stint_runner.output.pieces import CHUNK_BYTES, PIECES_WAITING, FellBehindError
from stint_runner.output.pump import OutputPump
from stint_runner.output.redact import LONGEST, Redactor
from tests.support.events import TOKEN
from tests.support.faults import failing
from tests.support.outputs import written
from tests.support.virtual_time import in_virtual_time

JOB = "0" * 24
SECRET = "correct horse"


async def _pieces(*pieces: OutputPiece, breaks: bool = False) -> AsyncIterator[OutputPiece]:
    """These pieces, and then the end, or the engine breaks off."""
    for piece in pieces:
        yield piece
    if breaks:
        raise EngineUnavailableError


def _stdout(*texts: bytes, breaks: bool = False) -> AsyncIterator[OutputPiece]:
    return _pieces(*[OutputPiece("stdout", text) for text in texts], breaks=breaks)


async def _hanging(text: bytes) -> AsyncGenerator[OutputPiece, None]:
    """This piece, and then neither more nor an end."""
    yield OutputPiece("stdout", text)
    await asyncio.Event().wait()


async def _copied(
    pieces: AsyncIterator[OutputPiece], *, mask: Iterable[Any] = (), log: MemoryOutput | None = None, **options: int
) -> tuple[OutputPump, list[Chunk]]:
    log = log or MemoryOutput()
    pump = OutputPump(log, TOKEN, JOB, **options)
    pump.mask(mask)
    await pump.copy(pieces)
    return pump, await _stored(log)


async def _stored(log: MemoryOutput) -> list[Chunk]:
    chunks = [chunk async for chunk in log.read(TOKEN, JOB)]
    digest, offset = "", 0
    for number, chunk in enumerate(chunks, start=1):
        digest = hashlib.sha256(digest.encode() + chunk.data).hexdigest()
        assert (chunk.number, chunk.offset, chunk.digest) == (number, offset, digest)
        offset += len(chunk.data)
    return chunks


def _text(chunks: Iterable[Chunk], *streams: str) -> bytes:
    return b"".join(chunk.data for chunk in chunks if not streams or chunk.stream in streams)


@given(st.lists(st.builds(OutputPiece, st.sampled_from(["stdout", "stderr"]), st.binary(min_size=1, max_size=40))))
async def test_output_is_whole_and_in_order(pieces: list[OutputPiece]) -> None:
    pump, chunks = await _copied(_pieces(*pieces))
    assert _text(chunks) == b"".join(piece.data for piece in pieces)
    assert _text(chunks, "stdout") == b"".join(piece.data for piece in pieces if piece.stream == "stdout")
    assert (pump.chain.chunks, pump.chain.size) == (len(chunks), sum(len(piece.data) for piece in pieces))


async def test_a_flood_goes_in_large_chunks() -> None:
    _, chunks = await _copied(_stdout(*[b"x" * 1024] * 1000))
    assert len(chunks) < 50
    assert max(len(chunk.data) for chunk in chunks) <= 2 * CHUNK_BYTES


async def test_what_had_come_is_stored_when_the_output_breaks_off() -> None:
    log = MemoryOutput()
    pieces = [OutputPiece("stdout" if number % 2 else "stderr", b"%d\n" % number) for number in range(60)]
    with pytest.raises(EngineUnavailableError):
        await _copied(_pieces(*pieces, breaks=True), log=log)
    assert _text(await _stored(log)) == b"".join(piece.data for piece in pieces)


async def test_output_waits_for_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryOutput()
    monkeypatch.setattr(log, "append", failing(log.append, *[BrokerUnavailableError()] * 2))
    _, chunks = await _copied(_stdout(b"x"), log=log)
    assert _text(chunks) == b"x"


async def test_a_copy_ends_that_fails_in_the_moment_in_which_it_is_broken_off() -> None:
    class Foreign(MemoryOutput):
        async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
            del token, job_id, chunk, after
            for _ in range(3):
                await asyncio.sleep(0)  # until what was taken is replaced, and the reader waits for room again
            pump.break_off()
            raise LogGapError

    pump = OutputPump(Foreign(), TOKEN, JOB)
    async with asyncio.timeout(10):
        with pytest.raises(LogGapError):
            await pump.copy(_stdout(*[b"x" * CHUNK_BYTES] * 10 * PIECES_WAITING))


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.integers(1, 20)), max_size=12))
async def test_secrets_are_masked_in_each_stream_however_they_come(cuts: list[tuple[str, int]]) -> None:
    left = dict.fromkeys(("stdout", "stderr"), f"<{SECRET}{SECRET}>".encode() * 2)
    pieces = []
    for stream, size in [*cuts, ("stdout", 99), ("stderr", 99)]:
        pieces.append(OutputPiece(stream, left[stream][:size]))
        left[stream] = left[stream][size:]
    pump, chunks = await _copied(_pieces(*pieces), mask=[SECRET, 7, None])
    assert _text(chunks, "stdout") == _text(chunks, "stderr") == b"<******><******>"
    assert (pump.masked, pump.chain.size, pump.truncated) == (8, 32, False)
    assert all(chunk.data for chunk in chunks), "no empty chunk is stored"


async def test_the_beginning_of_a_secret_is_held_back_and_comes_in_the_end() -> None:
    log, more = MemoryOutput(), asyncio.Event()

    async def slowly() -> AsyncIterator[OutputPiece]:
        yield OutputPiece("stdout", b"first: corr")
        await more.wait()
        yield OutputPiece("stderr", b"between\n")

    pump = OutputPump(log, TOKEN, JOB)
    pump.mask([SECRET])
    async with written(log, TOKEN, JOB) as tail, asyncio.timeout(10):
        copying = asyncio.create_task(pump.copy(slowly()))
        assert (await anext(tail)).data == b"first: "
        more.set()
        await copying
    pieces = [(chunk.stream, chunk.data) for chunk in await _stored(log)]
    assert pieces == [("stdout", b"first: "), ("stderr", b"between\n"), ("stdout", b"corr")]


async def test_a_secret_that_the_engine_breaks_off_in_is_masked_as_far_as_it_came() -> None:
    log = MemoryOutput()
    pump = OutputPump(log, TOKEN, JOB)
    pump.mask([SECRET])
    with pytest.raises(EngineUnavailableError):
        await pump.copy(_stdout(b"a correct hor", breaks=True))
    assert _text(await _stored(log)) == b"a ", "it may go on"
    await pump.flush(broken=True)
    assert (_text(await _stored(log)), pump.masked) == (b"a ***", 1)


async def test_what_was_held_back_goes_in_chunks_that_fit_into_a_message() -> None:
    pieces = [b"x" * (LONGEST - 1), b"-" * (CHUNK_BYTES - 1), b"-" * CHUNK_BYTES]
    _, chunks = await _copied(_stdout(*pieces), mask=["x" * LONGEST])
    assert _text(chunks) == b"".join(pieces)
    assert max(len(chunk.data) for chunk in chunks) <= 2 * CHUNK_BYTES


@pytest.mark.parametrize(
    ("texts", "limit", "expected"),
    [
        ((b"12345",), 5, b"12345"),
        ((b"123", b"45"), 5, b"12345"),
        ((b"123456",), 5, b"12345\n[output truncated at 5 bytes]\n"),
        ((b"123", b"456", b"789"), 5, b"12345\n[output truncated at 5 bytes]\n"),
        ((b"12345" * 10**5,), 5, b"12345\n[output truncated at 5 bytes]\n"),
        ((b"123456",), 0, b"123456"),
        ((), 5, b""),
        ((b"",), 5, b""),
    ],
)
async def test_the_limit_is_exact(texts: tuple[bytes, ...], limit: int, expected: bytes) -> None:
    log = MemoryOutput()
    pump, chunks = await _copied(_stdout(*texts), limit=limit, log=log)
    assert _text(chunks) == expected
    assert (pump.chain.size, pump.chain.chunks) == (len(expected), len(chunks))
    assert pump.truncated == (b"truncated" in expected)
    assert pump.chain.digest == (chunks[-1].digest if chunks else "")
    again = OutputPump(log, TOKEN, JOB, limit=limit)
    await again.resume()
    await again.copy(_stdout(*texts))
    assert (again.truncated, again.gap, await _stored(log)) == (pump.truncated, False, chunks), "what was cut stays cut"


@pytest.mark.parametrize("limit", [3, 4])
async def test_the_marker_is_a_chunk_in_the_stream_that_was_cut(limit: int) -> None:
    """Inside of a piece, or between two."""
    pieces = [OutputPiece("stdout", b"abc"), OutputPiece("stderr", b"def"), OutputPiece("stdout", b"ghi")]
    _, (first, *second, last) = await _copied(_pieces(*pieces), limit=limit)
    assert (first.stream, first.data) == ("stdout", b"abc")
    assert [(chunk.stream, chunk.data) for chunk in second] == [("stderr", b"d")][: limit - 3]
    assert (last.stream, last.data) == ("stderr", b"\n[output truncated at %d bytes]\n" % limit)


async def test_very_many_small_chunks_are_cut_off_before_the_limit() -> None:
    """Each takes 300 bytes in NATS besides its own: a job would fill its disk with single bytes."""
    log, limit = MemoryOutput(), 200 * output.BYTES_A_CHUNK
    pieces = [OutputPiece(stream, b"x") for _ in range(1000) for stream in ("stdout", "stderr")]
    pump, chunks = await _copied(_pieces(*pieces), limit=limit, log=log)
    assert [chunk.data for chunk in chunks] == [b"x"] * 1200 + [b"\n[output truncated at 1200 bytes]\n"]
    assert pump.truncated
    pump = OutputPump(log, TOKEN, JOB, limit=limit)
    await pump.resume()
    await pump.copy(_pieces(*pieces))
    assert (pump.truncated, pump.gap, await _stored(log)) == (True, False, chunks)
    pump, chunks = await _copied(_pieces(*pieces[:1200]), limit=limit)
    assert (pump.truncated, len(chunks)) == (False, 1200)
    pump, chunks = await _copied(_pieces(*pieces))
    assert (pump.truncated, len(chunks)) == (False, 2000)


async def test_a_long_piece_is_cut_where_no_more_chunks_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "BYTES_A_CHUNK", 10**9)
    small = [OutputPiece(stream, b"-") for _ in range(499) for stream in ("stderr", "stdout")]
    held_back = b"-" * (CHUNK_BYTES - LONGEST + 1) + b"x" * (LONGEST - 1)
    long = [held_back, b"-" * (CHUNK_BYTES - 1), b"-" * CHUNK_BYTES]
    pieces = (*small, *(OutputPiece("stderr", data) for data in long))
    pump, chunks = await _copied(_pieces(*pieces), limit=10**8, mask=["x" * LONGEST])
    assert len(chunks) == 1001
    assert chunks[-1].data == b"\n[output truncated at %d bytes]\n" % chunks[-1].offset
    assert pump.truncated


async def test_masking_comes_before_the_limit() -> None:
    pump, chunks = await _copied(_stdout(f"{SECRET}1{SECRET}2".encode()), mask=[SECRET], limit=8)
    assert (_text(chunks), pump.truncated, pump.masked) == (b"***1***2", False, 2)
    pump, chunks = await _copied(_stdout(f"12{SECRET}".encode()), mask=[SECRET], limit=4)
    assert _text(chunks) == b"12**\n[output truncated at 4 bytes]\n"
    pump, chunks = await _copied(_stdout(b"12corr"), mask=[SECRET], limit=4)
    assert _text(chunks) == b"12co\n[output truncated at 4 bytes]\n"


@pytest.mark.parametrize("follows", ["more", "nothing", "a fault of the engine"])
async def test_past_the_limit_the_output_is_let_go_of_whatever_follows(follows: str) -> None:
    """Not read to its end, which may be far: an endless flood would keep a runner busy for nothing."""
    pieces: AsyncIterator[OutputPiece] = _hanging(b"12345")
    if follows != "nothing":
        pieces = _stdout(*[b"12345"] * (1000 if follows == "more" else 1), breaks=follows != "more")
    async with asyncio.timeout(10):
        pump, _ = await _copied(pieces, limit=4)
        assert [piece async for piece in pieces] == []
    assert pump.truncated


PIECES = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(min_size=1, max_size=9)), max_size=12)


@given(PIECES, st.integers(0, 12), st.integers(0, 12), st.booleans(), st.booleans())
async def test_what_is_stored_is_gone_on_with_without_a_gap_or_a_repeat(
    written: list[tuple[str, bytes]], first: int, second: int, mask: bool, same: bool
) -> None:
    """In each stream, however often it broke off, by the same pump or by another."""
    secret = written[0][1].decode("latin-1") if mask and written and len(written[0][1]) > 3 else SECRET
    pieces = [OutputPiece(stream, data) for stream, data in written]
    whole, _ = await _copied(_pieces(*pieces), mask=[secret])
    log = MemoryOutput()
    pump = OutputPump(log, TOKEN, JOB)
    for count in (first, second, len(pieces)):
        pump = pump if same else OutputPump(log, TOKEN, JOB)
        pump.mask([secret])
        await pump.resume()
        try:
            await pump.copy(_pieces(*pieces[:count], breaks=count < len(pieces)))
        except EngineUnavailableError:
            continue
        break
    stored = await _stored(log)
    for stream in ("stdout", "stderr"):
        alone, _ = await _copied(_pieces(*[piece for piece in pieces if piece.stream == stream]), mask=[secret])
        assert len(_text(stored, stream)) == alone.chain.size
    assert (pump.chain.size, pump.masked) == (whole.chain.size, whole.masked)
    assert pump.chain.chunks == len(stored)
    assert same or not pump.gap, "the same one knows that the engine was away"


async def test_what_a_pump_has_stored_itself_is_not_read() -> None:
    class Unread(MemoryOutput):
        def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
            raise AssertionError(token, job_id, after)

    pump = OutputPump(Unread(), TOKEN, JOB)
    await pump.copy(_stdout(b"one\n"))
    await pump.resume()
    await pump.copy(_stdout(b"one\n", b"two\n"))
    assert (pump.chain.size, pump.gap) == (8, False)
    await pump.resume()
    await pump.copy(_stdout(b"two\n", b"two\n"))
    assert pump.gap, "it is compared all the same"


@pytest.mark.parametrize("before", [b"", b"one\n"])
async def test_a_message_of_a_stranger_is_read_also_if_it_is_the_first(before: bytes) -> None:
    """And if it has the digest of what was stored before it."""
    log = MemoryOutput()
    pump = OutputPump(log, TOKEN, JOB)
    await pump.copy(_stdout(before))
    stranger = Chunk(number=0, offset=0, stream="", digest=pump.chain.digest, data=b"")
    await log.append(TOKEN, JOB, stranger, after=pump.chain.chunks)
    await pump.resume()
    await pump.copy(_stdout(before, b"two\n"))
    written = [chunk.data async for chunk in log.read(TOKEN, JOB) if chunk.number]
    assert (b"".join(written), pump.gap) == (before + b"two\n", False)


async def test_what_another_has_stored_in_a_log_that_was_made_anew_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sequences begin at 1 again."""
    log, anew = MemoryOutput(), MemoryOutput()
    pump = OutputPump(log, TOKEN, JOB)
    await pump.copy(_stdout(b"one\n"))
    await OutputPump(anew, TOKEN, JOB).copy(_stdout(b"two\n"))
    for name in ("append", "last", "read"):
        monkeypatch.setattr(log, name, getattr(anew, name))
    await pump.resume()
    await pump.copy(_stdout(b"one\n", b"three\n"))
    assert (_text(await _stored(anew)), pump.gap) == (b"two\nthree\n", True)


async def test_an_engine_that_lost_what_is_stored_leaves_a_gap() -> None:
    log = MemoryOutput()
    await OutputPump(log, TOKEN, JOB).copy(_stdout(b"one\ntwo\n"))
    for given_again in ([b"two\nthree\n"], [b"one\n"], []):
        pump = OutputPump(log, TOKEN, JOB)
        await pump.resume()
        await pump.copy(_stdout(*given_again))
        assert pump.gap


async def test_what_is_no_chunk_is_passed_over() -> None:
    log = MemoryOutput()
    pump = OutputPump(log, TOKEN, JOB)
    await pump.copy(_stdout(b"one\n"))
    await log.append(TOKEN, JOB, Chunk(number=0, offset=0, stream="", digest="", data=b""), after=1)
    with pytest.raises(LogGapError):
        await pump.copy(_stdout(b"two\n"))
    await pump.resume()
    await pump.copy(_stdout(b"one\n", b"two\n"))
    written = [chunk async for chunk in log.read(TOKEN, JOB) if chunk.number]
    assert [(chunk.number, chunk.data) for chunk in written] == [(1, b"one\n"), (2, b"two\n")]
    assert not pump.gap


@pytest.mark.parametrize(
    ("attached", "limit", "complete"),
    [(True, 0, True), (True, 4, True), (True, 3, True), (False, 4, True), (False, 3, False)],
)
async def test_what_was_attached_to_is_complete_up_to_the_limit(attached: bool, limit: int, complete: bool) -> None:
    """And a log at its end: where it was cut, what comes first in it may not be what was written first."""
    pump = OutputPump(MemoryOutput(), TOKEN, JOB, limit=limit)
    await pump.copy(_stdout(b"one\n"), attached=attached)
    assert (pump.complete, pump.truncated) == (complete, limit == 3)


async def test_a_log_that_may_have_rotated_is_not_complete() -> None:
    async def rotated() -> AsyncIterator[OutputPiece]:
        yield OutputPiece("stdout", b"one correct h")
        raise LogRotatedError

    pump, chunks = await _copied(rotated(), mask=[SECRET])
    assert (_text(chunks), pump.complete) == (b"one correct h", False)


async def test_after_an_interruption_of_the_engine_nobody_knows() -> None:
    """The engine may have been killed, and have read more from the container than it wrote to its log."""
    pump = OutputPump(MemoryOutput(), TOKEN, JOB)
    assert not pump.complete, "nothing is before its end"
    with pytest.raises(EngineUnavailableError):
        await pump.copy(_stdout(b"one\n", breaks=True), attached=True)
    assert not pump.complete
    await pump.resume()
    await pump.copy(_stdout(b"one\n", b"two\n"))
    assert (pump.chain.size, pump.complete) == (8, False)


class Stalling(MemoryOutput):
    """A log that stores nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def append(self, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        await self.may.wait()
        return await super().append(token, job_id, chunk, after=after)


async def test_a_log_that_stalls_lets_an_attached_container_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "BEHIND", 0.01)
    written = [b"%08d" % number for number in range(3 * PIECES_WAITING)]
    log, gone = Stalling(), asyncio.Event()

    async def attached() -> AsyncIterator[OutputPiece]:
        try:
            for text in written:
                yield OutputPiece("stdout", text)
        finally:
            gone.set()

    pump = OutputPump(log, TOKEN, JOB)
    copying = asyncio.create_task(pump.copy(attached(), attached=True))
    async with asyncio.timeout(10):
        await gone.wait()
        log.may.set()
        with pytest.raises(FellBehindError):
            await copying
    await pump.resume()
    await pump.copy(_stdout(*written))
    assert (_text(await _stored(log)), pump.complete) == (b"".join(written), True)


async def test_output_is_given_up_without_a_race_with_the_search_for_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search goes on in its thread whatever becomes of who waits for it."""
    begun, may, flushed = asyncio.Event(), threading.Event(), threading.Event()
    loop, feed, flush = asyncio.get_running_loop(), Redactor.feed, Redactor.flush

    def feeding(redactor: Redactor, data: bytes) -> bytes:
        loop.call_soon_threadsafe(begun.set)
        may.wait(10)
        assert not flushed.is_set()
        return feed(redactor, data)

    def flushing(redactor: Redactor, *, broken: bool = False) -> bytes:
        flushed.set()
        return flush(redactor, broken=broken)

    monkeypatch.setattr(Redactor, "feed", feeding)
    monkeypatch.setattr(Redactor, "flush", flushing)

    log = MemoryOutput()
    pump = OutputPump(log, TOKEN, JOB)
    pump.mask([SECRET])
    text = b"whole correct horse, part: correct ho"
    copying = Copying(DockerEngine(), pump, "c", _hanging(text), concealed=False)
    async with asyncio.timeout(10):
        await begun.wait()
        giving_up = asyncio.create_task(copying.give_up())
        await asyncio.wait({giving_up}, timeout=0.05)
        may.set()
        await giving_up
    assert _text(await _stored(log)) == b"whole ***, part: ***"
    assert (pump.complete, pump.masked) == (False, 2)


@pytest.mark.parametrize("steps", range(4))
async def test_output_can_be_given_up_at_any_moment(steps: int) -> None:
    """Also when its reading is about to begin."""
    pump = OutputPump(MemoryOutput(), TOKEN, JOB)
    copying = Copying(DockerEngine(), pump, "c", _hanging(b"x"))
    for _ in range(steps):
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await copying.give_up()
    assert not pump.complete


async def test_output_can_be_given_up_while_the_engine_refuses_at_once(tmp_path: Path) -> None:
    engine = DockerEngine(f"unix://{tmp_path / 'no.sock'}")
    copying = Copying(engine, OutputPump(MemoryOutput(), TOKEN, JOB), "c", None)
    async with asyncio.timeout(10), aclosing(copying):
        await copying.give_up()
    await engine.close()


async def test_an_end_that_cannot_be_stored_is_left_out_and_does_not_change_how_the_job_ended() -> None:
    """What was held back for a secret comes last, when the output is given up already."""
    log = MemoryOutput()
    pump = OutputPump(log, TOKEN, JOB)
    pump.mask([SECRET])
    async with asyncio.timeout(10), written(log, TOKEN, JOB) as chunks:
        copying = Copying(DockerEngine(), pump, "c", _hanging(b"one correct ho"), concealed=False)
        await anext(chunks)
        await log.append(TOKEN, JOB, Chunk(number=0, offset=0, stream="", digest="", data=b"of a stranger"), after=1)
        await copying.give_up()
    assert (pump.complete, pump.chain.chunks) == (False, 1)


@pytest.mark.parametrize("when", ["before the exit", "after it"])
@in_virtual_time()
async def test_a_killed_job_does_not_wait_for_all_of_its_output(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    monkeypatch.setattr(copying_module, "OUTPUT_END", 0.1)

    async def endless() -> AsyncGenerator[OutputPiece, None]:
        while True:
            yield OutputPiece("stdout", b"more")
            await asyncio.sleep(0.01)

    pump, killed = OutputPump(MemoryOutput(), TOKEN, JOB), asyncio.Event()
    finishing = asyncio.create_task(Copying(DockerEngine(), pump, "c", endless()).finish(killed))
    if when == "after it":
        assert not (await asyncio.wait({finishing}, timeout=0.5))[0]
    killed.set()
    async with asyncio.timeout(10):
        await finishing
    assert (pump.complete, pump.chain.chunks > 0) == (False, True)


@in_virtual_time()
async def test_a_job_that_is_over_waits_with_its_output_until_there_is_room_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also with what has not been read from the engine yet."""
    log, room = MemoryOutput(), asyncio.Event()
    append, texts = log.append, [b"x" * 1024] * 4 * PIECES_WAITING

    async def once_there_is_room(token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        await room.wait()
        return await append(token, job_id, chunk, after=after)

    monkeypatch.setattr(log, "append", once_there_is_room)
    await _finished_once(room, log, texts, monkeypatch)


@pytest.mark.parametrize("call", ["last", "read"])
@pytest.mark.parametrize("away", [False, True])
@in_virtual_time()
async def test_a_job_that_is_over_waits_until_what_is_stored_has_been_read(
    monkeypatch: pytest.MonkeyPatch, call: str, *, away: bool
) -> None:
    """By a runner that adopted it: over a slow link that takes its time, and NATS may be away meanwhile."""
    log, there = MemoryOutput(), asyncio.Event()
    texts = [b"x" * 1024] * 4 * PIECES_WAITING
    await OutputPump(log, TOKEN, JOB).copy(_stdout(*texts[:PIECES_WAITING]))
    last, read = log.last, log.read

    async def come() -> None:
        if away and not there.is_set():
            raise BrokerUnavailableError
        await there.wait()

    async def last_once_there(token: str, job_id: str) -> Chunk | None:
        await come()
        return await last(token, job_id)

    async def read_once_there(token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        await come()
        async for chunk in read(token, job_id, after=after):
            yield chunk

    monkeypatch.setattr(log, call, last_once_there if call == "last" else read_once_there)
    await _finished_once(there, log, texts, monkeypatch)


async def _finished_once(
    there: asyncio.Event, log: MemoryOutput, texts: Sequence[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a job's output waits until `there` is set, for ten times as long as for output that does not come."""
    engine, pump = DockerEngine(), OutputPump(log, TOKEN, JOB)
    monkeypatch.setattr(engine, "output", lambda _container_id: _stdout(*texts))
    finishing = asyncio.create_task(Copying(engine, pump, "c", None).finish(asyncio.Event()))
    assert not (await asyncio.wait({finishing}, timeout=10 * copying_module.OUTPUT_END))[0]
    there.set()
    await finishing
    assert (pump.complete, _text(await _stored(log))) == (True, b"".join(texts))
