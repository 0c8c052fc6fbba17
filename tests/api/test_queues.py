"""Contract, sections 0 and 3: a queue runs one job at a time, in order, across all runners; its name is any text."""

import asyncio
from datetime import datetime
from itertools import pairwise

from tests.api.client import Api, new_queue, until_term

SPAN = "cat /proc/uptime; sleep 0.2; cat /proc/uptime"
"""Prints the machine's clock at the job's beginning and end."""


def span(output: str) -> tuple[float, float]:
    begin, end = [float(line.split()[0]) for line in output.splitlines()]
    return begin, end


async def test_jobs_of_a_queue_run_one_after_the_other_in_order(api: Api) -> None:
    qname = new_queue()
    ids = [await api.submit(SPAN, qname=qname) for _ in range(6)]
    jobs = [await api.ended(job_id) for job_id in ids]
    spans = [span(job["stdout"]) for job in jobs]
    assert all(one[1] <= following[0] for one, following in pairwise(spans)), spans
    assert all(job["status"] == "success" for job in jobs)


async def test_queues_run_side_by_side_and_more_than_one_runner_takes_part(api: Api) -> None:
    """One job more than a runner has slots, none of which ends by itself."""
    runners = (await api.http.get("/v1/api/runner")).json()["data"]
    ids = [await api.submit(until_term()) for _ in range(max(runner["capacity"] for runner in runners) + 1)]
    await asyncio.gather(*map(api.said, ids))
    jobs = [await api.get(job_id) for job_id in ids]
    assert {job["status"] for job in jobs} == {"running"}
    assert len({job["node_uuid"] for job in jobs}) >= 2
    for job_id in ids:
        await api.kill(job_id)
    await asyncio.gather(*map(api.ended, ids))


async def test_a_job_that_fails_lets_the_next_one_go(api: Api) -> None:
    qname = new_queue()
    ids = [
        await api.submit("false", qname=qname),
        await api.submit(qname=qname, wrap_secret_id="junk"),
        await api.submit(qname=qname, container_image=""),
        await api.submit(qname=qname, content="junk"),
        await api.submit("echo last", qname=qname),
    ]
    jobs = [await api.ended(job_id) for job_id in ids]
    assert [job["status"] for job in jobs] == ["failed", "notauthorised", "failed", "failed", "success"]
    ends = [datetime.fromisoformat(job["ended"]) for job in jobs]
    assert ends == sorted(ends)


async def test_the_states_in_their_order(api: Api) -> None:
    job_id = await api.submit("echo out")
    events = [event async for event in api.events(job_id)]
    facts = [event.data["kind"] for event in events if event.name == "fact"]
    assert facts == ["submitted", "started", "launched", "ended"]
    states = [event.data["status"] for event in events if event.name == "fact"]
    assert states == ["queued", "running", "running", "success"]
    assert events[-1].name == "end"
    assert events[-1].data["status"] == "success"


NAMES = ["a.b.c", "with space", " ", "*", ">", "a/b?c#d%e", "$sys", "_", "_bad", 'quote"back\\slash']
NAMES += ["\u00fcml\u00e4ut", "\u4e2d\u6587", "\U0001f680", "e\u0301", "x" * 1000, "\u00e9" * 500]


async def test_any_name_is_kept_and_its_jobs_run(api: Api) -> None:
    answers = [await api.post(await api.plain("echo there", qname=qname)) for qname in NAMES]
    for qname, answer in zip(NAMES, answers, strict=True):
        assert (answer.status_code, answer.json()["qname"]) == (200, qname)
        ended = await api.ended(answer.json()["_id"])
        assert (ended["qname"], ended["output"]) == (qname, "there\n")
        await api.appears(ended["_id"], qname=qname)


async def test_names_are_compared_lower_cased(api: Api) -> None:
    name = f"\u00dcML\u00c4UT-{new_queue()}"
    async with api.busy(name) as first:
        second = await api.submit(qname=name.lower())
        third = await api.submit(qname=name.title())
        for job_id in (second, third):
            job = await api.get(job_id)
            assert (job["status"], job["qname"]) == ("queued", name.lower())
    await api.ended(third)
    listed = await api.listed(3, qname=name)
    assert [job["_id"] for job in listed["data"]] == [third, second, first]
