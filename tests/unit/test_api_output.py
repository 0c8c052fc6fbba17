import asyncio
import json
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg
from starlette.responses import Response
from starlette.types import Message

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.core.output.chain import Chain, Chunk
from stint.core.view import JobView, view
from stint.jetstream import Broker
from stint.jetstream.wire.subscriptions import Batch
from stint.testing import MemoryOutput
from stint_api.errors import JsonAnswer, RefusalError
from stint_api.read.job import output
from stint_api.read.job.output import CHUNK_COST, KEPT, Snapshot
from stint_api.read.runners import REMEMBERED, JetStreamRunnerReports, Shared, summary
from stint_api.read.standing import Standing
from stint_api.routes import documents
from stint_api.web.bounds import OpenStreams
from stint_api.web.streaming import PIECE, WHOLE, Stream, answer
from tests.support import events
from tests.support.events import utc_now
from tests.support.outputs import chained
from tests.support.views import job_view

ID = "0" * 24
EURO = "\u20ac".encode()
Piece = tuple[str, bytes]


class Store(MemoryOutput):
    """Counts its passes. A replica can lag, NATS can go away behind a chunk, and the output be purged behind one."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.lags: list[int] = []
        self.away_after = self.purged_after = -1

    async def write(self, *pieces: Piece) -> None:
        chain, sequence = Chain(), 0
        async for chunk in super().read(events.TOKEN, ID):
            chain, sequence = Chain.through(chunk) if chunk.number else chain, chunk.sequence
        for stream, data in pieces:
            chain, chunk = chained(chain, data, stream)
            sequence = await self.append(events.TOKEN, ID, chunk, after=sequence)

    async def read(self, token: str, job_id: str, *, after: int = 0) -> AsyncIterator[Chunk]:
        self.reads += 1
        missing = self.lags.pop(0) if self.lags else 0
        last = await self.last(token, job_id)
        async for chunk in super().read(token, job_id, after=after):
            if last and chunk.sequence > last.sequence - missing:
                return
            yield chunk
            if chunk.number == self.away_after:
                raise BrokerUnavailableError
            if chunk.number == self.purged_after:
                await self.purge(token, job_id)
                return

    def lose_first(self) -> None:
        del self._chunks[events.TOKEN, ID][0]

    def damage(self, place: int, **changes: Any) -> None:
        chunks = self._chunks[events.TOKEN, ID]
        chunks[place] = msgspec.structs.replace(chunks[place], **changes)

    async def stranger_writes(self, number: int = 0, data: bytes = b"") -> None:
        """Without a number it is no chunk."""
        last = await self.last(events.TOKEN, ID)
        chunk = Chunk(number=number, offset=0, stream="stdout", digest="0" * 64, data=data)
        await self.append(events.TOKEN, ID, chunk, after=last.sequence if last else 0)

    async def snapshot(self, recorded: Chain | None = None, *, lenient: bool = False) -> Snapshot:
        return await Snapshot.take(self, events.TOKEN, ID, recorded=recorded, lenient=lenient)


async def stored(*pieces: Piece) -> Store:
    store = Store()
    await store.write(*pieces)
    return store


def running_job() -> JobView:
    return view(events.job_of(events.submitted(), events.started()))


def ended_job(**fields: Any) -> JobView:
    ended = msgspec.structs.replace(events.ended(), **{"output_complete": True, **fields})
    return view(events.job_of(events.submitted(), events.started(), ended))


async def body(job: JobView, snapshot: Snapshot | None, *, stdout_only: bool = False) -> Any:
    raw = b"".join([piece async for piece in documents.one(job, snapshot, stdout_only=stdout_only)])
    return json.loads(raw)


async def texts(store: Store, *, stdout_only: bool = False) -> tuple[str, str, str]:
    found = await body(running_job(), await store.snapshot(), stdout_only=stdout_only)
    return found["output"], found["stdout"], found["stderr"]


async def raw(snapshot: Snapshot) -> bytes:
    return b"".join([chunk.data async for chunk in snapshot.chunks()])


async def test_controls_and_what_could_end_a_script_are_escaped() -> None:
    written = '\0\r\x1b[1m"\\</script>&\u2028\u2029\x7f\u00e9\U0001f600'
    store = await stored(("stdout", written.encode()))
    pieces = [piece async for piece in documents.one(running_job(), await store.snapshot(), stdout_only=False)]
    assert json.loads(b"".join(pieces))["output"] == written
    assert not set("<>&\u2028\u2029\0\r\x1b") & set(b"".join(pieces).decode())


BYTES = st.binary(max_size=6) | st.sampled_from([EURO[:1], EURO[1:], EURO[:2], EURO[2:]])


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), BYTES), max_size=12))
async def test_any_bytes_in_any_pieces_come_out_as_each_stream_decodes(pieces: list[Piece]) -> None:
    """A character may be split around the other stream, or broken off in the end."""
    store = await stored(*pieces)
    both, stdout, stderr = await texts(store)
    whole = {name: b"".join(data for stream, data in pieces if stream == name) for name in ("stdout", "stderr")}
    assert (stdout, stderr) == tuple(whole[name].decode(errors="replace") for name in ("stdout", "stderr"))
    assert sorted(both) == sorted(stdout + stderr)
    assert (await texts(store, stdout_only=True))[0] == stdout
    assert await raw(await store.snapshot()) == b"".join(data for _, data in pieces)


async def test_the_error_stands_in_the_place_of_output_only_where_there_is_none() -> None:
    store = await stored(("stderr", b"x"))
    job = ended_job(status="failed", error="late", output_bytes=1)
    assert (await body(job, await store.snapshot(), stdout_only=True))["output"] == ""
    assert (await body(job, await Store().snapshot()))["output"] == "late"
    assert (await body(job, None))["output"] == "", "not asked for"


@pytest.mark.parametrize(
    ("job", "size", "complete"),
    [
        (running_job(), 5, True),
        (ended_job(output_bytes=5), 5, True),
        (ended_job(output_bytes=5, output_complete=False), 5, False),
        (ended_job(output_bytes=7), 7, False),
        (ended_job(output_bytes=5, output_truncated=True), 5, True),
        (ended_job(status="unknown", reason="lost"), 5, False),
    ],
)
async def test_what_is_missing_in_the_log_is_not_complete(job: JobView, size: int, complete: bool) -> None:
    store = await stored(("stdout", b"abc"), ("stderr", b"de"))
    found = await body(job, await store.snapshot())
    assert (found["output_bytes"], found["output_complete"]) == (size, complete)
    announced = documents.as_stored(job, (await store.snapshot()).size, whole=True)
    assert (announced.output_bytes, announced.output_complete) == (size, complete)


async def test_an_answer_has_all_fields_once() -> None:
    store = await stored(("stdout", b"x"))
    whole = b"".join([piece async for piece in documents.one(running_job(), await store.snapshot(), stdout_only=False)])
    names = [name for name, _ in json.loads(whole, object_pairs_hook=list)]
    assert sorted(names) == sorted({*documents.fields(running_job(), Standing()), "output", "stdout", "stderr"})


async def test_what_comes_later_is_in_no_pass() -> None:
    store = await stored(("stdout", b"a" * KEPT), ("stderr", b"b"))
    snapshot = await store.snapshot()
    stdout = [text async for text in snapshot.text("stdout")]
    await store.write(("stdout", b"later"), ("stderr", b"later"))
    assert [text async for text in snapshot.text("stderr")] == ["b", ""]
    assert "".join(stdout) == "a" * KEPT
    assert snapshot.size == KEPT + 1


@pytest.mark.parametrize(
    ("pieces", "reads"),
    [
        ([b"x" * (KEPT - CHUNK_COST)], 1),
        ([b"x" * (KEPT - CHUNK_COST + 1)], 2),
        ([b"x"] * (KEPT // (CHUNK_COST + 1)), 1),
        ([b"x"] * (KEPT // CHUNK_COST), 2),
    ],
)
async def test_only_a_small_output_is_kept(pieces: list[bytes], reads: int) -> None:
    store = await stored(*(("stdout", data) for data in pieces))
    whole = b"".join(pieces).decode()
    assert await texts(store) == (whole, whole, "")
    assert store.reads == reads


async def test_a_replica_may_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "SETTLE_PAUSE", 0)
    store = await stored(("stdout", b"a"), ("stdout", b"b"), ("stdout", b"c"))
    store.lags = [3, 1]
    assert await raw(await store.snapshot()) == b"abc"
    store.lags = [1] * (output.SETTLE_TRIES + 2)
    with pytest.raises(BrokerUnavailableError):
        await raw(await store.snapshot())


@pytest.mark.parametrize(("may_lag", "asked"), [(False, 1), (True, 1 + output.SETTLE_TRIES)])
async def test_output_whose_end_is_lost_is_asked_for_a_while_in_a_cluster_and_then_shown_without_it(
    monkeypatch: pytest.MonkeyPatch, may_lag: bool, asked: int
) -> None:
    monkeypatch.setattr(output, "SETTLE_PAUSE", 0)
    store = await stored(("stdout", b"a"))
    monkeypatch.setattr(store, "may_lag", may_lag)
    monkeypatch.setattr(store, "last", last := AsyncMock(wraps=store.last))
    snapshot = await store.snapshot(Chain(2, 2, "digest of both"))
    assert last.await_count == asked
    assert (await raw(snapshot), snapshot.whole) == (b"a", False)


async def test_output_that_is_deleted_before_it_is_read_is_empty() -> None:
    store = await stored(("stdout", b"a"))
    snapshot = await store.snapshot()
    await store.purge(events.TOKEN, ID)
    found = await body(ended_job(output_bytes=1), snapshot)
    assert (found["output"], found["stdout"], found["output_bytes"], found["output_complete"]) == ("", "", 1, False)
    assert (await body(ended_job(), await Store().snapshot()))["output_complete"] is True


async def test_output_that_is_deleted_while_it_is_read_is_an_error() -> None:
    store = await stored(("stdout", b"a"), ("stdout", b"b"))
    store.purged_after = 1
    with pytest.raises(RefusalError) as caught:
        await body(running_job(), await store.snapshot())
    assert caught.value.code == 503


@pytest.mark.parametrize("deleted", ["all", "the first chunk"])
async def test_a_second_pass_that_finds_less_is_an_error(deleted: str) -> None:
    store = await stored(("stdout", b"a"), ("stdout", b"a" * KEPT))
    snapshot = await store.snapshot()
    await raw(snapshot)
    if deleted == "all":
        await store.purge(events.TOKEN, ID)
    else:
        store.lose_first()
    with pytest.raises(RefusalError):
        await raw(snapshot)


@pytest.mark.parametrize("changes", [{"data": b"B"}, {"digest": "0" * 64}, {"offset": 0}, {"number": 1}], ids=list)
async def test_a_chunk_that_does_not_continue_the_chain_of_digests_is_an_error(changes: dict[str, Any]) -> None:
    store = await stored(("stdout", b"a"), ("stdout", b"b"), ("stdout", b"c"))
    store.damage(1, **changes)
    with pytest.raises(RefusalError, match="does not continue the chain") as caught:
        await body(running_job(), await store.snapshot())
    assert caught.value.code == 500


async def test_the_rest_of_output_that_lost_a_chunk_is_shown_as_not_complete() -> None:
    store = await stored(("stdout", b"a"), ("stdout", b"b"), ("stdout", b"c"))
    store.lose_first()
    found = await body(ended_job(output_bytes=3), await store.snapshot())
    assert (found["output"], found["output_complete"]) == ("bc", False)


async def test_output_of_the_same_size_that_is_not_the_runners_is_not_complete() -> None:
    recorded = Chain().add(b"hello\n")
    for data, complete in [(b"hello\n", True), (b"pwned\n", False)]:
        store = await stored(("stdout", data))
        job = ended_job(output_bytes=6)
        assert (await store.snapshot(recorded)).whole is complete, "as its last chunk says"
        found = await body(job, await store.snapshot(recorded))
        assert (found["output"].encode(), found["output_complete"]) == (data, complete)


@pytest.mark.parametrize("job", [running_job(), ended_job(output_bytes=7)])
async def test_output_behind_missing_chunks_is_not_complete(job: JobView) -> None:
    store = await stored(("stdout", b"a"))
    await store.stranger_writes(3, b"FORGED")
    found = await body(job, await store.snapshot())
    assert (found["output"], found["output_complete"]) == ("aFORGED", False)


async def test_what_is_no_chunk_is_skipped() -> None:
    store = await stored(("stdout", b"a"))
    await store.stranger_writes()
    await store.write(("stdout", b"b"))
    await store.stranger_writes()
    found = await body(ended_job(output_bytes=2), await store.snapshot(Chain().add(b"a").add(b"b")))
    assert (found["output"], found["output_complete"]) == ("ab", True)


async def test_a_damaged_job_on_a_page_says_so_and_the_others_are_shown() -> None:
    good, bad = await stored(("stdout", b"good")), await stored(("stdout", b"a"), ("stdout", b"b"))
    bad.damage(1, data=b"B")
    job = ended_job(output_bytes=2, error="It timed out.")
    jobs, taking = [job, running_job()], (store.snapshot(lenient=True) for store in (bad, good))
    page = documents.several(jobs, lambda _: next(taking), {"total": 2}, stdout_only=False, standings={})
    first, second = json.loads(b"".join([piece async for piece in page]))["data"]
    assert (first["output"], first["stdout"], first["output_complete"]) == ("a", "a", False)
    assert first["error"].startswith("It timed out. The stored output is damaged: chunk 2 ")
    assert (second["output"], second["output_complete"], second["error"]) == ("good", True, "")


async def test_a_large_answer_gets_its_place_back_at_its_end() -> None:
    streams = OpenStreams(1)
    large = partial(Stream, closed=streams.enter("me"))
    with pytest.raises(RefusalError):
        streams.enter("me")
    streams.enter("another")()
    await sent(await answer(pieces_of(b"a" * WHOLE, b"b"), media_type="x/y", large=large))
    streams.enter("me")


async def pieces_of(*pieces: bytes, error: Exception | None = None) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece
    if error:
        raise error


async def sent(response: Response) -> list[Message]:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()  # the client stays
        return {}

    await response({"type": "http"}, receive, send)
    return messages


async def test_a_small_answer_has_a_length_and_a_large_one_comes_in_pieces_that_are_worth_sending() -> None:
    small = await answer(pieces_of(b"a" * WHOLE), media_type="x/y", headers={"A": "b"})
    start, whole = await sent(small)
    assert (b"content-length", str(WHOLE).encode()) in start["headers"]
    assert (b"a", b"b") in start["headers"]
    assert whole["body"] == b"a" * WHOLE
    tail = [b"%d" % (number % 10) for number in range(2 * PIECE)]
    start, head, *rest, end = await sent(await answer(pieces_of(b"a" * WHOLE, b"b", *tail), media_type="x/y"))
    assert b"content-length" not in dict(start["headers"])
    assert head["body"] == b"a" * WHOLE + b"b"
    assert b"".join(message["body"] for message in rest) == b"".join(tail)
    assert {len(message["body"]) for message in rest} <= {PIECE, 0}
    assert not end["more_body"]
    start, *_ = await sent(await answer(pieces_of(b"a", b"", b"b"), media_type="x/y"))
    assert b"content-length" not in dict(start["headers"]), "much was read for it"


async def test_what_fails_early_is_an_error_and_what_fails_late_has_no_end() -> None:
    with pytest.raises(BrokerUnavailableError):
        await answer(pieces_of(b"a" * WHOLE, error=BrokerUnavailableError()), media_type="x/y")
    late = await answer(pieces_of(b"a" * WHOLE, b"b", error=BrokerUnavailableError()), media_type="x/y")
    assert all(message["more_body"] for message in (await sent(late))[1:])
    with pytest.raises(ZeroDivisionError):  # our own fault
        await sent(await answer(pieces_of(b"a" * (WHOLE + 1), error=ZeroDivisionError()), media_type="x/y"))


async def test_a_client_that_leaves_ends_the_work() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"a" * (WHOLE + 1)
        finally:
            closed.set()

    async def send(_message: Message) -> None:
        sending.set()
        await asyncio.Event().wait()  # it reads no more

    async def receive() -> Message:
        await sending.wait()
        return {"type": "http.disconnect"}

    sending = asyncio.Event()
    response = await answer(endless(), media_type="x/y")
    async with asyncio.timeout(5):
        await response({"type": "http"}, receive, send)
        await closed.wait()


def test_an_answer_can_stand_in_a_page() -> None:
    rendered = bytes(JsonAnswer({"x": "</script>&\u2028\ud800\u00e9"}).body)
    assert rendered == '{"x":"\\u003c/script\\u003e\\u0026\\u2028?\u00e9"}\n'.encode()


def test_an_engine_counts_once_however_many_runners_use_it() -> None:
    one = {"engine_id": "A", "images": 3, "mem_total": 8, "architecture": "x86_64"}
    newer = {**one, "images": 4}
    other = {**one, "engine_id": "B", "architecture": "aarch64"}
    nameless = {"images": 1}
    assert (summary([])["images"], summary([])["operating_system"]) == ("0", "")
    figures = summary([one, newer, other, nameless, nameless, {**nameless, "engine_id": []}])
    assert (figures["images"], figures["mem_total"], figures["architecture"]) == ("10", "16", "aarch64, x86_64")


@pytest.mark.parametrize("junk", [None, "7", [], float("nan"), float("inf"), 1e300, {"a": 1}])
def test_junk_in_a_report_counts_nothing(junk: object) -> None:
    assert summary([{"images": junk}, {"images": 2}])["images"] == "2"


async def test_a_question_is_asked_once_a_second_however_many_ask() -> None:
    asked, now = 0, 1.0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return asked

    shared = Shared(ask, monotonic=lambda: now)
    assert await asyncio.gather(*(shared() for _ in range(9))) == [1] * 9
    assert await shared() == 1
    now += REMEMBERED
    assert await shared() == 2


async def test_a_kept_refusal_holds_no_request() -> None:
    refusals = list[BrokerRefusedError]()

    async def refuse() -> None:
        refusals.append(BrokerRefusedError("No."))
        raise refusals[-1]

    shared = Shared(refuse, monotonic=lambda: 1.0)
    raised = await asyncio.gather(*(shared() for _ in range(9)), return_exceptions=True)
    assert {(type(error), str(error)) for error in raised} == {(BrokerRefusedError, "No.")}
    (kept,) = refusals
    frames = {frame.f_code.co_name for frame, _ in traceback.walk_tb(kept.__traceback__)}
    assert "refuse" in frames
    assert "__call__" not in frames, "which holds what the request holds"


class RunnersOnly(Broker):
    """A broker that only knows one runner, which reported at 0:00 of the server's clock, and junk behind it."""

    time = ""
    asked = 0

    async def api(self, call: str, request: Mapping[str, Any] | None = None, wait: float | None = None) -> Any:
        assert (call, request, wait) == ("STREAM.INFO.KV_runners", None, None)
        return {"ts": self.time}

    async def direct_get(self, stream: str, request: Mapping[str, Any]) -> Batch:
        assert stream == "KV_runners"
        self.asked += request["seq"] <= 1
        headers = {"Nats-Subject": "$KV.runners.one", "Nats-Sequence": "1", "Nats-Time-Stamp": "2025-01-01T00:00:00Z"}
        bodies = (b'{"images": 1}', b"[]", b"[" * 100_000) if request["seq"] <= 1 else ()
        return Batch(Msg(self.client, data=body, headers=headers) for body in bodies)


@pytest.mark.parametrize(("second", "alive"), [(29, True), (31, False)])
async def test_a_runner_is_alive_for_half_a_minute_after_its_report(second: int, alive: bool) -> None:
    broker = RunnersOnly("nats://127.0.0.1:1")
    broker.time = f"2025-01-01T00:00:{second}Z"
    reports = JetStreamRunnerReports(broker, now=utc_now)
    (told,) = await reports.all()
    assert (told["runner"], told["images"], told["alive"]) == ("one", 1, alive)
    assert await reports.read() == ([told] if alive else [])
    assert broker.asked == 1, "the second answer is the first one"


async def test_a_row_of_a_list_has_the_fields_of_a_job() -> None:
    job = msgspec.structs.replace(job_view(1), rerun_of="b", submission=7, sequence=9)
    standing = Standing(3, "turn", "pulling", 0.5, "c")
    page = documents.several([job], None, {}, stdout_only=False, standings={job.job_id: standing})
    (row,) = json.loads(b"".join([piece async for piece in page]))["data"]
    outputs = dict.fromkeys(("output", "stdout", "stderr"), "")
    assert list(row.items()) == [*documents.fields(job, standing).items(), *outputs.items()]
