import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from stint.core.codec import encode
from stint.core.names.ids import queue_token
from stint.core.view import view
from stint.jetstream import Broker, JetStreamEventLog, JetStreamViews
from stint.jetstream.streams.stream import BATCH, BATCH_BYTES
from stint.vault.setup import client_token
from stint_api.web.streaming import WHOLE
from tests.support import memory
from tests.support.api_bench import ApiProcess, api_process, submitted
from tests.support.brokers import connected, loaded
from tests.support.outputs import Played
from tests.support.servers import NatsProcess, OpenBao
from tests.support.vault_bench import as_root
from tests.support.waiting import until, until_true

TOKEN = queue_token("deploys")
JOBS = "/v1/api/job"
MIB = 1 << 20
CHUNK = 64 * 1024
LARGE = 70 * 1_000_000
GROWTH = 64 * 1_000_000
"""Bytes that an answer may add to the API's memory."""
SOCKETS = 24 * MIB
"""More than the buffers of a connection hold: an answer of this size is not over before it is read."""


@dataclass(frozen=True)
class Bench:
    """An API as a process, and a runner's side of it."""

    server: ApiProcess
    http: httpx.AsyncClient
    broker: Broker

    async def job(self, *pieces: tuple[str, bytes]) -> "Writer":
        writer = Writer(self, await submitted(self.http))
        await writer.begin(*pieces)
        return writer

    async def memory(self, job: "Writer") -> Callable[[], int]:
        """How much more memory it has had at most since now. It has answered for the job, without its output."""
        assert (await self.http.get(job.path, params={"output": "false"})).status_code == 200
        pid = self.server.pid
        before = memory.from_now(pid)
        return lambda: memory.peak(pid) - before


class Writer(Played):
    def __init__(self, bench: Bench, job_id: str) -> None:
        super().__init__(bench.broker, TOKEN, job_id)
        self.path = f"{JOBS}/{job_id}"
        self._bench = bench

    async def listed(self) -> None:
        """Put it on the list, as a projector does."""
        job = await loaded(JetStreamEventLog(self._bench.broker), self.job_id)
        assert await JetStreamViews(self._bench.broker).put(self.job_id, encode(view(job)), revision=0, ttl=None)

    async def get(self, **params: str) -> dict[str, Any]:
        answer = await self._bench.http.get(self.path, params=params)
        assert answer.status_code == 200, answer.text
        assert answer.text.endswith("}\n")
        found: dict[str, Any] = answer.json()
        return found

    async def raw(self, **params: str) -> bytes:
        answer = await self._bench.http.get(f"{self.path}/output", params=params)
        assert answer.status_code == 200, answer.text
        return answer.content


@asynccontextmanager
async def bench_on(nats: NatsProcess, openbao: OpenBao, folder: Path, **settings: str) -> AsyncIterator[Bench]:
    async with (
        api_process(folder / "api", nats.url, openbao, **settings) as (server, http),
        connected(nats.url) as broker,
    ):
        yield Bench(server, http, broker)


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with bench_on(nats, openbao, tmp_path_factory.mktemp("output")) as bench:
        yield bench


@pytest.fixture
async def fresh(nats: NatsProcess, openbao: OpenBao, tmp_path: Path) -> AsyncIterator[Bench]:
    """Another API, which has not used any memory yet."""
    async with bench_on(nats, openbao, tmp_path) as fresh:
        yield fresh


@pytest.fixture(scope="module")
async def large(bench: Bench) -> Writer:
    """An ended job with much output on both streams."""
    writer = await bench.job()
    await writer.write(*large_pieces(LARGE))
    await writer.end()
    return writer


def large_pieces(size: int) -> list[tuple[str, bytes]]:
    line = b"%063d\n"
    block = b"".join(line % number for number in range(CHUNK // 64))
    full = [(("stdout", "stderr")[number % 5 == 0], block) for number in range(size // CHUNK)]
    return [*full, ("stdout", block[: size % CHUNK])]


def many_pieces(count: int) -> list[tuple[str, bytes]]:
    return [(("stdout", "stderr")[number % 2], b"%d\n" % number) for number in range(count)]


SEAMS = [many_pieces(count) for count in (BATCH - 1, BATCH, BATCH + 1, 2 * BATCH)]
SEAMS += [large_pieces(size + more) for size in (WHOLE, BATCH_BYTES) for more in (-1, 0, 1)]


@pytest.mark.parametrize("pieces", SEAMS, ids=lambda pieces: f"{len(pieces)}-{sum(len(data) for _, data in pieces)}")
async def test_batches_join_without_a_seam(bench: Bench, pieces: list[tuple[str, bytes]]) -> None:
    writer = await bench.job(*pieces)
    await writer.end()
    whole = b"".join(data for _, data in pieces)
    assert await writer.raw() == whole
    found = await writer.get()
    assert found["output"].encode() == whole
    assert len(found["stdout"]) + len(found["stderr"]) == found["output_bytes"] == len(whole)
    assert found["output_complete"] is True


@pytest.mark.soak
async def test_large_output_is_whole_and_takes_little_memory(fresh: Bench, large: Writer) -> None:
    pieces = large_pieces(LARGE)
    parts = {name: b"".join(data for stream, data in pieces if stream == name) for name in ("stdout", "stderr")}
    both = b"".join(data for _, data in pieces)
    grown = await fresh.memory(large)
    for query, wanted in [("", both), ("?stream=stderr", parts["stderr"])]:
        assert digest((await fresh.http.get(f"{large.path}/output{query}")).content) == digest(wanted)
    assert grown() < GROWTH
    found = (await fresh.http.get(large.path)).json()
    assert [digest(found.pop(name).encode()) for name in ("output", "stdout", "stderr")] == [
        digest(data) for data in (both, *parts.values())
    ]
    assert (found["output_bytes"], found["output_complete"]) == (LARGE, True)
    assert grown() < GROWTH


@pytest.mark.soak
async def test_a_page_of_large_jobs_takes_little_memory(fresh: Bench, large: Writer) -> None:
    small = await fresh.job(("stdout", b"<small>"))
    for writer in (large, small):
        await writer.listed()
    await until(lambda: fresh.http.get(JOBS), lambda answer: answer.json()["total"] == 2)
    grown = await fresh.memory(small)
    page = (await fresh.http.get(JOBS, params={"output": "true"})).json()
    assert grown() < GROWTH
    assert [(job["_id"], job["output_bytes"]) for job in page["data"]] == [(small.job_id, 7), (large.job_id, LARGE)]
    assert (page["data"][0]["output"], len(page["data"][1]["output"])) == ("<small>", LARGE)
    assert all(job["output_complete"] for job in page["data"])


async def keep(pieces: AsyncIterator[bytes], kept: list[bytes], *, pause: float = 0) -> None:
    async for piece in pieces:
        kept.append(piece)
        await asyncio.sleep(pause)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.soak
async def test_slow_readers_hold_little_and_hold_nobody_up(fresh: Bench, large: Writer) -> None:
    grown, reading = await fresh.memory(large), []  # an iterator that nobody has any more closes its connection
    async with AsyncExitStack() as stack:
        for path in (large.path, f"{large.path}/output"):
            answer = await stack.enter_async_context(fresh.http.stream("GET", path))
            reading.append(answer.aiter_raw())
            await anext(reading[-1])
        async with asyncio.timeout(20):
            assert (await fresh.http.get(f"{large.path}/output")).num_bytes_downloaded == LARGE
    assert grown() < GROWTH


async def test_an_answer_whose_job_is_deleted_breaks_off(bench: Bench) -> None:
    for suffix in ("", "/output"):
        writer = await bench.job(*large_pieces(SOCKETS))
        await writer.end()
        async with bench.http.stream("GET", f"{writer.path}{suffix}") as answer:
            pieces = answer.aiter_raw()
            await anext(pieces)
            assert (await bench.http.delete(writer.path)).status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                await keep(pieces, [])
        assert (await bench.http.get(f"{writer.path}{suffix}")).status_code == 404
    await until_true(lambda: "The output was deleted while it was read" in bench.server.log)
    assert "Traceback" not in bench.server.log


@pytest.mark.soak
async def test_a_client_that_reads_nothing_is_cut_off(
    nats: NatsProcess, openbao: OpenBao, large: Writer, tmp_path: Path
) -> None:
    settings = {"STINT_SEND_TIMEOUT": "1", "STINT_STREAMS": "1"}
    async with bench_on(nats, openbao, tmp_path, **settings) as bench:
        path = f"{large.path}/output"
        async with bench.http.stream("GET", path) as answer:
            pieces = answer.aiter_raw()
            await anext(pieces)
            # Until it is cut off, its caller has no stream left: 429.
            whole = await until(lambda: bench.http.get(path), lambda other: other.status_code == 200)
            assert whole.num_bytes_downloaded == LARGE
            with pytest.raises(httpx.RemoteProtocolError):
                await keep(pieces, [])


@pytest.mark.soak
async def test_a_slow_reader_is_not_cut_off(nats: NatsProcess, openbao: OpenBao, large: Writer, tmp_path: Path) -> None:
    """It reads 50 times slower than the kernel asks for more."""
    async with bench_on(nats, openbao, tmp_path, STINT_SEND_TIMEOUT="1") as bench:
        async with bench.http.stream("GET", f"{large.path}/output") as answer:
            pieces = answer.aiter_raw(CHUNK)
            for _ in range(50):
                await anext(pieces)
                await asyncio.sleep(0.05)  # the pace is what is tested
            kept: list[bytes] = []
            await keep(pieces, kept)
        assert 50 * CHUNK + sum(map(len, kept)) == LARGE


@pytest.mark.soak
async def test_a_large_answer_breaks_off_with_its_callers_token(
    nats: NatsProcess, openbao: OpenBao, large: Writer, tmp_path: Path
) -> None:
    async with bench_on(nats, openbao, tmp_path) as bench:
        token = await client_token(openbao.address, openbao.root_token)
        async with bench.http.stream("GET", large.path, headers={"X-Auth-Token": token}) as answer:
            pieces = answer.aiter_raw()
            begun = [await anext(pieces)]
            await as_root(openbao, lambda client: client.auth.token.revoke(token))
            with pytest.raises(httpx.RemoteProtocolError):
                await keep(pieces, begun, pause=0.02)  # it still reads at the next check
        assert sum(map(len, begun)) < LARGE
