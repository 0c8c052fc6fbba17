"""What a list shows of views that come, go, expire, or cannot be read. Its parameters are checked in `tests/api`."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from stint.core.codec import encode
from stint.core.job import State
from stint.process.background import cancel
from stint_api.read.listing.index import ListIndex
from tests.support.api_bench import Bench, api
from tests.support.servers import NatsProcess, OpenBao
from tests.support.views import job_view
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao) as bench:
        for number in range(25):
            await bench.put_view(job_view(number, qname="ab"[number % 2]))
        await bench.put_view(job_view(25, qname="b", status="success", ended=datetime.now(UTC).isoformat()))
        await bench.put_view(job_view(26, status="success", ended="2020-01-01T00:00:00Z"))
        await _seen(bench, 26)
        yield bench


async def _seen(bench: Bench, total: int) -> None:
    """The list lags by design: wait for it."""
    await until(lambda: _list(bench), lambda body: body["total"] == total)


async def _list(bench: Bench, **params: object) -> dict[str, Any]:
    answer = await bench.http.get("/v1/api/job", params={name: str(value) for name, value in params.items()})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def _numbers(body: dict[str, Any]) -> list[int]:
    return [int(job["_id"], 16) for job in body["data"]]


async def test_the_newest_come_first_and_expired_ones_are_gone(bench: Bench) -> None:
    body = await _list(bench)
    assert (body["skip"], body["limit"], body["total"]) == (0, 10, 26)
    assert _numbers(body) == list(range(25, 15, -1))
    assert "sequence" not in body["data"][0]
    assert _numbers(await _list(bench, skip=20, limit=100)) == [5, 4, 3, 2, 1, 0]


async def test_links_lead_through_the_pages_while_jobs_come(bench: Bench) -> None:
    answer = await bench.http.get("/v1/api/job", params={"qname": "b", "limit": "4", "skip": "1"})
    seen = _numbers(answer.json())
    await bench.put_view(job_view(50, qname="b"))
    await _seen(bench, 27)
    while "next" in answer.links:
        answer = await bench.http.get(answer.url.join(answer.links["next"]["url"]))
        assert (answer.json()["skip"], answer.json()["limit"], answer.json()["total"]) == (0, 4, 14)
        seen += _numbers(answer.json())
    assert seen == [23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1]
    await bench.views.delete(f"{50:024x}")
    await _seen(bench, 26)


async def test_filters(bench: Bench) -> None:
    assert _numbers(await _list(bench, qname="B", limit=2)) == [25, 23]
    within = await _list(bench, submitted_after="2026-01-01T00:00:03.5Z", submitted_before="2026-01-01T01:00:06+01:00")
    assert _numbers(within) == [5, 4]
    await bench.put_view(job_view(32, qname="held", status="running", held=True))
    await bench.put_view(job_view(33, qname="held", status="running"))
    await _seen(bench, 28)
    assert _numbers(await _list(bench, held="true")) == [32]
    assert _numbers(await _list(bench, held="false", status="running")) == [33]
    for number in (32, 33):
        await bench.views.delete(f"{number:024x}")
    await _seen(bench, 26)


@pytest.mark.parametrize(
    "query", ["held=", "cursor=", "cursor=1-x", "held=1", "held=True", "skip=%C2%B2", f"skip={'9' * 5000}", "qname=%00"]
)
async def test_bad_queries(bench: Bench, query: str) -> None:
    answer = await bench.http.get(f"/v1/api/job?{query}")
    assert (answer.status_code, answer.json()["status"]) == (400, "Invalid job request.")


async def test_the_list_and_the_counts_follow_changes(bench: Bench) -> None:
    await bench.put_view(job_view(30, qname="c", status="running"))
    await _seen(bench, 27)
    health = (await bench.http.get("/v1/api/health")).json()
    counts = {name: health[f"{name}_jobs"] for name in ("all", "queued", "running", "success")}
    assert counts == {"all": "27", "queued": "25", "running": "1", "success": "1"}
    for number, junk in ((31, {}), (34, {"ended": "yesterday"}), (35, {"ended": "9999-12-31T23:59:59Z"})):
        job = msgspec.structs.replace(job_view(number), **junk)
        await bench.broker.publish(f"$KV.jobs.{number:024x}", encode(job) if junk else b"junk")
    await _seen(bench, 28)
    assert (await bench.http.get("/v1/api/health?k=all_jobs")).text == "28"
    assert "stint_unreadable_views 2.0" in (await bench.http.get("/v1/api/metrics")).text
    for number in (31, 34, 35):
        await bench.views.delete(f"{number:024x}")
    await _seen(bench, 27)
    assert "stint_unreadable_views 0.0" in (await bench.http.get("/v1/api/metrics")).text
    await bench.views.delete(f"{30:024x}")
    await _seen(bench, 26)


async def test_expiry_needs_no_message(bench: Bench) -> None:
    moment = datetime.now(UTC)
    index = ListIndex(
        bench.views,
        connected=bench.broker.wait_connected,
        retention=bench.parts.retention,
        now=lambda: moment,
    )
    following = asyncio.create_task(index.run())
    await index.ready.wait()
    await bench.put_view(job_view(40, status="failed", ended=moment.isoformat()))
    await until(index.counts, lambda counts: counts.by_status[State.FAILED] == 1)
    moment += bench.parts.retention
    assert (await index.counts()).by_status[State.FAILED] == 0
    await cancel(following)
    await bench.views.delete(f"{40:024x}")
    await _seen(bench, 26)
