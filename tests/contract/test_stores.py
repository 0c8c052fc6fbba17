"""What the stores beside the event log promise."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from stint.core.errors import LogGapError, UndecodableError
from stint.core.output.chain import Chunk
from stint.core.view import parse_time
from stint.jetstream import Broker, JetStreamKept, JetStreamPayloads
from stint.ports import Place, StoredView, ViewPut
from tests.contract.conftest import JOB, OTHER, Ports
from tests.support.events import TOKEN
from tests.support.outputs import places_of
from tests.support.views import followed


def _chunk(number: int, data: bytes = b"line\n") -> Chunk:
    digest = hashlib.sha256(f"{number}".encode() + data).hexdigest()
    return Chunk(number=number, offset=0, stream="stdout", digest=digest, data=data)


@pytest.mark.parametrize("size", [1, 512 * 1024, 512 * 1024 + 1, 3_000_000])
async def test_payloads_come_back_whole(ports: Ports, size: int) -> None:
    sealed = bytes(index % 251 for index in range(size))
    chunks = await ports.payloads.put(TOKEN, JOB, sealed)
    assert chunks == -(-size // (512 * 1024))
    await ports.payloads.put(TOKEN, OTHER, b"other")
    assert await ports.payloads.get(TOKEN, JOB, chunks) == sealed
    assert await ports.payloads.put(TOKEN, JOB, sealed) == chunks, "safe to repeat"


async def test_tries_at_one_payload_are_kept_apart(ports: Ports) -> None:
    first, second = b"1" * 600_000, b"2" * 600_000
    for attempt, sealed in (("a-", first), ("b-", second)):
        assert await ports.payloads.put(TOKEN, JOB, sealed, attempt=attempt) == 2
    assert await ports.payloads.get(TOKEN, JOB, 2, attempt="a-") == first
    assert await ports.payloads.get(TOKEN, JOB, 2, attempt="b-") == second
    with pytest.raises(UndecodableError):
        await ports.payloads.get(TOKEN, JOB, 2)
    await ports.payloads.purge(TOKEN, JOB)
    with pytest.raises(UndecodableError):
        await ports.payloads.get(TOKEN, JOB, 2, attempt="a-")


async def test_a_payload_is_written_once_and_refused_with_a_chunk_missing(ports: Ports) -> None:
    for sealed in (b"x", b"second"):
        await ports.payloads.put(TOKEN, JOB, sealed)
    assert await ports.payloads.get(TOKEN, JOB, 1) == b"x"
    for attempt in ("a b", "\r\n", "*.", ">", "\0", "x" * 5000):
        with pytest.raises(UndecodableError):
            await ports.payloads.get(TOKEN, JOB, 1, attempt=attempt)
    with pytest.raises(UndecodableError, match="1 of its 2 chunks"):
        await ports.payloads.get(TOKEN, JOB, 2)


async def test_a_purge_up_to_a_chunk_leaves_later_ones(ports: Ports) -> None:
    await ports.payloads.put(TOKEN, OTHER, b"other")
    await ports.payloads.put(TOKEN, JOB, b"1" * 600_000, attempt="a-")
    first = await ports.payloads.newest(TOKEN, JOB)
    assert first is not None
    await ports.payloads.put(TOKEN, JOB, b"2", attempt="b-")
    second = await ports.payloads.newest(TOKEN, JOB)
    assert second is not None
    assert (second.sequence > first.sequence, second.time >= first.time) == (True, True)
    assert abs(datetime.now(UTC) - second.time) < timedelta(minutes=1)
    await ports.payloads.purge(TOKEN, JOB, through=first.sequence)
    with pytest.raises(UndecodableError, match="0 of its 2 chunks"):
        await ports.payloads.get(TOKEN, JOB, 2, attempt="a-")
    assert await ports.payloads.get(TOKEN, JOB, 1, attempt="b-") == b"2"
    assert await ports.payloads.newest(TOKEN, JOB) == second
    await ports.payloads.purge(TOKEN, JOB, through=second.sequence)
    assert await ports.payloads.newest(TOKEN, JOB) is None
    assert await ports.payloads.get(TOKEN, OTHER, 1) == b"other"


async def test_the_places_of_payloads_and_of_output_are_listed_until_they_are_purged(ports: Ports) -> None:
    here, elsewhere = Place(TOKEN, JOB), Place("_", OTHER)
    assert await ports.payloads.places() == await places_of(ports.output) == set()
    await ports.payloads.put(*here, b"1" * 600_000)
    await ports.payloads.put(*elsewhere, b"y", attempt="a-")
    after = await ports.output.append(*here, _chunk(1), after=0)
    await ports.output.append(*here, _chunk(2), after=after)
    await ports.output.append(*elsewhere, _chunk(1), after=0)
    assert await ports.output.last("_", JOB) is None
    assert await ports.payloads.places() == await places_of(ports.output) == {here, elsewhere}
    for _ in range(2):
        await ports.payloads.purge(*here)
        await ports.output.purge(*here)
    assert await ports.payloads.places() == await places_of(ports.output) == {elsewhere}
    with pytest.raises(UndecodableError):
        await ports.payloads.get(*here, 2)
    assert await ports.payloads.get(*elsewhere, 1, attempt="a-") == b"y"
    assert [chunk async for chunk in ports.output.read(*here)] == []
    assert [chunk.number async for chunk in ports.output.read(*elsewhere)] == [1]


async def test_the_payloads_of_many_places_are_purged(ports: Ports) -> None:
    places = [Place(TOKEN, f"{number:024x}") for number in range(40)]
    for count in (3, 40):
        for place in [*places[:count:2], Place(TOKEN, OTHER)]:
            await ports.payloads.put(*place, b"x")
        await ports.payloads.purge_all(places[:count])
        assert await ports.payloads.places() == {Place(TOKEN, OTHER)}
    await ports.payloads.purge_all([])


@pytest.mark.parametrize("size", [1, 512 * 1024, 512 * 1024 + 1, 3_000_000])
async def test_a_kept_payload_is_whole_or_not_kept(broker: Broker, size: int) -> None:
    kept, payloads = JetStreamKept(broker), JetStreamPayloads(broker)
    sealed, other = bytes(index % 251 for index in range(size)), b"other" * 200_000
    digest, others = (hashlib.sha256(data).hexdigest() for data in (sealed, other))
    for job_id in (JOB, OTHER):
        for data, of in ((sealed, digest), (other, others), (sealed, digest), (sealed, "1" * 64)):
            await kept.keep(TOKEN, job_id, of, data, seconds=60)
    assert await payloads.places() == set(), "it is not among those that jobs need"
    await kept.purge(TOKEN, JOB)
    assert await kept.get(TOKEN, OTHER, digest, size) == sealed
    for job_id, of in ((JOB, digest), (OTHER, others), (OTHER, "0" * 64), (OTHER, "1" * 64)):
        with pytest.raises(UndecodableError, match="not kept"):
            await kept.get(TOKEN, job_id, of, size)


async def test_the_first_output_since_a_moment_is_found(ports: Ports) -> None:
    moment = datetime.now(UTC) - timedelta(hours=1)
    assert await ports.output.first_since(TOKEN, JOB, moment) is None
    after = {JOB: 0, OTHER: 0}
    for number in (1, 2, 3):
        for job_id in (OTHER, JOB):
            after[job_id] = await ports.output.append(TOKEN, job_id, _chunk(number), after=after[job_id])
    stored = [chunk async for chunk in ports.output.read(TOKEN, JOB)]
    assert await ports.output.first_since(TOKEN, JOB, moment) == stored[0]
    assert await ports.output.first_since(TOKEN, JOB, parse_time(stored[1].time)) == stored[1]
    later = parse_time(stored[2].time) + timedelta(seconds=1)
    assert await ports.output.first_since(TOKEN, JOB, later) is None


async def test_output_is_read_in_order_with_its_raw_bytes(ports: Ports) -> None:
    chunks = [_chunk(1, b"\xff\x00"), structs.replace(_chunk(2), line=7, continues=True), _chunk(3)]
    after = 0
    for chunk in chunks:
        after = await ports.output.append(TOKEN, JOB, chunk, after=after)
    await ports.output.append(TOKEN, OTHER, _chunk(1), after=0)
    read = [chunk async for chunk in ports.output.read(TOKEN, JOB)]
    assert [structs.replace(chunk, sequence=0, time="") for chunk in read] == chunks
    assert all(abs(datetime.now(UTC) - parse_time(chunk.time)) < timedelta(minutes=1) for chunk in read)
    rest = [chunk.number async for chunk in ports.output.read(TOKEN, JOB, after=read[0].sequence)]
    assert rest == [2, 3]
    assert await ports.output.last(TOKEN, JOB) == read[-1]
    places = [0, *(chunk.sequence for chunk in read)]
    assert [await ports.output.next(TOKEN, JOB, after=place) for place in places] == [*read, None]
    assert await ports.output.last(TOKEN, "a" * 24) is None


async def test_output_has_one_writer(ports: Ports) -> None:
    first = await ports.output.append(TOKEN, JOB, _chunk(1), after=0)
    assert await ports.output.append(TOKEN, JOB, _chunk(1), after=0) == first, "safe to repeat"
    with pytest.raises(LogGapError):
        await ports.output.append(TOKEN, JOB, _chunk(1, b"another's"), after=0)
    with pytest.raises(LogGapError):
        await ports.output.append(TOKEN, JOB, _chunk(3), after=first + 1)


async def test_output_is_followed(ports: Ports) -> None:
    async with ports.output.follow(TOKEN, OTHER) as others, ports.output.follow(TOKEN, JOB) as changed:
        first = await ports.output.append(TOKEN, JOB, _chunk(1), after=0)
        await _set(changed)
        assert changed.take() == first
        assert not changed.is_set()
        await ports.output.append(TOKEN, JOB, _chunk(2), after=first)
        await _set(changed)
        assert not others.is_set()
        await ports.output.append(TOKEN, OTHER, _chunk(1), after=0)
        await _set(others)


async def _set(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()


async def test_views_are_written_by_compare_and_swap(ports: Ports) -> None:
    assert await ports.views.get(JOB) is None
    first = await ports.views.put(JOB, b"1", revision=0, ttl=None)
    assert await ports.views.put(JOB, b"2", revision=0, ttl=None) == 0
    assert await ports.views.get(JOB) == (JOB, first, b"1")
    second = await ports.views.put(JOB, b"3", revision=first, ttl=None)
    assert second > first > 0
    assert await ports.views.get(JOB) == (JOB, second, b"3")
    await ports.views.delete(JOB)
    gone = await ports.views.get(JOB)
    assert gone is not None
    assert gone.value is None
    assert await ports.views.put(JOB, b"4", revision=gone.revision, ttl=None)


async def test_many_views_are_written_at_once(ports: Ports) -> None:
    ids = [f"{number:024x}" for number in range(1000)]
    revisions = await ports.views.put_all([ViewPut(job_id, b"1", 0, 3600) for job_id in ids])
    for job_id, revision in zip(ids[:3] + ids[-3:], [*revisions[:3], *revisions[-3:]], strict=True):
        assert await ports.views.get(job_id) == (job_id, revision, b"1")
    current = dict(zip(ids, revisions, strict=True))
    current[ids[500]] = await ports.views.put(ids[500], b"2", revision=current[ids[500]], ttl=None)
    stale = [ViewPut(job_id, b"3", revision, None) for job_id, revision in zip(ids, revisions, strict=True)]
    for views in (stale, [ViewPut(job_id, b"3", 0, None) for job_id in ids], stale[500:501]):
        assert list(await ports.views.put_all(views)) == []
    assert await ports.views.get(ids[500]) == (ids[500], current[ids[500]], b"2")
    current = {stored.job_id: stored.revision for stored in await asyncio.gather(*map(ports.views.get, ids)) if stored}
    for few in (1, 2, 1000):
        views = [ViewPut(job_id, b"4", current[job_id], None) for job_id in ids[:few]]
        current |= dict(zip(ids, await ports.views.put_all(views), strict=False))
    assert await ports.views.get(ids[500]) == (ids[500], current[ids[500]], b"4")


async def test_views_are_read_page_by_page_in_the_order_of_their_revisions(ports: Ports) -> None:
    assert list(await ports.views.page()) == []
    ids = [f"{number:024x}" for number in range(600)]
    revisions = await ports.views.put_all([ViewPut(job_id, b"1", 0, None) for job_id in ids])
    await ports.views.put(ids[1], b"2", revision=revisions[1], ttl=None)
    await ports.views.delete(ids[0])
    found: list[StoredView] = []
    while page := await ports.views.page(after=found[-1].revision if found else 0):
        found += page
    assert [stored.job_id for stored in found] == [*ids[2:], ids[1], ids[0]]
    assert [stored.value for stored in found[-3:]] == [b"1", b"2", None]


async def test_views_are_listed_and_followed(ports: Ports) -> None:
    def told(stored: StoredView | None) -> tuple[str, bytes | None] | None:
        return (stored.job_id, stored.value) if stored else None

    assert list(await ports.views.job_ids()) == []
    await ports.views.put(JOB, b"1", revision=0, ttl=None)
    async with followed(ports.views) as changes:
        assert told(await anext(changes)) == (JOB, b"1")
        assert await anext(changes) is None, "all that was there is told"
        await ports.views.put(OTHER, b"2", revision=0, ttl=None)
        assert told(await anext(changes)) == (OTHER, b"2")
        assert set(await ports.views.job_ids()) == {JOB, OTHER}
        await ports.views.delete(JOB)
        assert told(await anext(changes)) == (JOB, None)
