"""What a list shows of views that come, go, expire, or cannot be read. Its parameters are checked in `tests/api`."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from stint.core.codec import encode
from tests.support.answers import json_of
from tests.support.api_bench import Bench
from tests.support.views import job_view
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def bench(bench: Bench) -> Bench:
    for number in range(25):
        await bench.put_view(job_view(number, qname="ab"[number % 2]))
    await bench.put_view(job_view(25, qname="b", status="success", ended=datetime.now(UTC).isoformat()))
    await bench.put_view(job_view(26, status="success", ended="2020-01-01T00:00:00Z"))
    await _seen(bench, 26)
    return bench


async def _seen(bench: Bench, total: int) -> None:
    """The list lags by design: wait for it."""
    await until(lambda: _list(bench), lambda body: body["total"] == total)


async def _list(bench: Bench, **params: object) -> dict[str, Any]:
    return json_of(await bench.http.get("/v1/api/job", params={name: str(value) for name, value in params.items()}))


def _numbers(body: dict[str, Any]) -> list[int]:
    return [int(job["_id"], 16) for job in body["data"]]


async def test_the_newest_come_first_and_expired_ones_are_gone(bench: Bench) -> None:
    body = await _list(bench)
    assert (body["skip"], body["limit"], body["total"]) == (0, 10, 26)
    assert _numbers(body) == list(range(25, 15, -1))
    assert "sequence" not in body["data"][0]
    assert _numbers(await _list(bench, skip=20, limit=100)) == [5, 4, 3, 2, 1, 0]


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
