"""Contract, sections 0 and 2: the list."""

from collections import Counter
from datetime import datetime

import pytest

from tests.api.client import NEVER, Api, Json, bad_request, new_queue
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def five(api: Api) -> list[Json]:
    """Jobs of one queue, the last submitted first: the third of them has failed."""
    qname = new_queue()
    ids = [await api.submit("echo out" if n != 2 else "echo out; false", qname=qname) for n in range(5)]
    jobs = [await api.ended(job_id) for job_id in ids]
    await until(
        lambda: api.list(qname=qname), lambda body: sum(job["ended"] != NEVER for job in body["data"]) == len(ids)
    )
    return jobs[::-1]


def ids(body: Json) -> list[str]:
    return [job["_id"] for job in body["data"]]


async def test_the_last_submitted_comes_first_without_output(api: Api, five: list[Json]) -> None:
    body = await api.list(qname=five[0]["qname"])
    assert set(body) == {"data", "skip", "limit", "total", "now", "as_of"}
    assert body["as_of"] <= body["now"]
    assert (body["skip"], body["limit"], body["total"]) == (0, 10, 5)
    assert ids(body) == [job["_id"] for job in five]
    times = [datetime.fromisoformat(job["submitted"]) for job in body["data"]]
    assert times == sorted(times, reverse=True)
    assert body["data"] == [{**job, "output": "", "stdout": "", "stderr": ""} for job in five]


async def test_output_if_asked_for(api: Api, five: list[Json]) -> None:
    assert (await api.list(qname=five[0]["qname"], output="true"))["data"] == five
    assert (await api.list(qname=five[0]["qname"], output="false"))["data"][0]["output"] == ""


async def test_skip_and_limit(api: Api, five: list[Json]) -> None:
    qname, all_ids = five[0]["qname"], [job["_id"] for job in five]
    for skip, limit, wanted in [(0, 2, all_ids[:2]), (1, 3, all_ids[1:4]), (4, 100, all_ids[4:]), (5, 1, [])]:
        body = await api.list(qname=qname, skip=skip, limit=limit)
        assert (ids(body), body["skip"], body["limit"], body["total"]) == (wanted, skip, limit, 5)


async def test_ten_a_page_of_all_jobs(api: Api, five: list[Json]) -> None:
    body = await api.list()
    assert body["total"] >= len(body["data"]) >= len(five)
    assert len(body["data"]) == min(10, body["total"])
    every = await api.list(limit=100)
    assert len(every["data"]) == min(100, every["total"])


async def test_jobs_are_found_by_what_is_known_of_them(api: Api, five: list[Json]) -> None:
    failed, qname = five[2], five[0]["qname"]
    submitted = [job["submitted"] for job in five]
    for params, wanted in (
        ({"id": failed["_id"].upper()}, [failed]),
        ({"id": failed["_id"][:15]}, [job for job in five if job["_id"].startswith(failed["_id"][:15])]),
        ({"id": failed["_id"][-7:]}, [failed]),
        ({"image": "usybo"}, five),
        ({"image": "alpine"}, []),
        ({"who": failed["submitted_by"]}, five),
        ({"who": failed["submitted_by"][:-1]}, []),
        ({"q": "EXIT_"}, [failed]),
        ({"status": "running"}, []),
        ({"status": "failed"}, [failed]),
        ({"submitted_before": submitted[2]}, five[3:]),
        ({"submitted_before": "2999-01-01T00:00:00+01:00"}, five),
        ({"submitted_after": submitted[3]}, five[:3]),
        ({"submitted_after": "2999-01-01t00:00:00z"}, []),
        ({"since": submitted[2]}, five[:3]),
        ({"until": submitted[2]}, five[3:]),
        ({"since": submitted[3], "until": submitted[0], "status": "success"}, [five[1], five[3]]),
    ):
        body = await api.list(qname=qname, counts="1", **params)
        assert (ids(body), body["total"]) == ([job["_id"] for job in wanted], len(wanted)), params
        if "status" not in params:
            assert body["counts"] == Counter(job["status"] for job in wanted)
    body = await api.list(qname=qname, counts="1", status="failed", limit="1")
    assert (body["total"], body["counts"]) == (1, {"success": 4, "failed": 1})
    assert "counts" not in await api.list(qname=qname, counts="0")


async def test_parameters_that_make_no_sense(api: Api) -> None:
    wrong: list[Json] = [{"limit": text} for text in ("0", "101", "-1", "x", "", "1.5", "9" * 30)]
    wrong += [{"skip": text} for text in ("-1", "x", "", "1.5", "9" * 30)]
    wrong += [{"status": "nonsense"}, {"submitted_after": "yesterday"}, {"submitted_before": ""}, {"qname": "x" * 1001}]
    wrong += [{"id": text} for text in ("", "x", "0" * 25, "0-")] + [{"counts": text} for text in ("", "true", "2")]
    wrong += [{name: text} for name in ("q", "image", "who") for text in ("", "x" * 1001)] + [{"since": "now"}]
    for params in wrong:
        assert bad_request(await api.http.get("/v1/api/job", params=params)), params


async def test_a_queue_without_a_job_is_an_empty_list(api: Api) -> None:
    empty = {"data": [], "skip": 0, "limit": 10, "total": 0}
    body = await api.list(qname=new_queue())
    assert body == {**empty, "now": body["now"], "as_of": body["as_of"]}
