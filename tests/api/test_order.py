"""Contract, section 3: one at a time per queue, in order of submission, across all runners."""

import asyncio
from itertools import pairwise

from tests.api.client import Api, new_queue

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
    jobs = await asyncio.gather(*(api.run(SPAN.replace("0.2", "0.5")) for _ in range(6)))
    assert len({job["node_uuid"] for job in jobs}) >= 2
    spans = [span(job["stdout"]) for job in jobs]
    assert [(a, b) for a in spans for b in spans if a is not b and a[0] < b[1] and b[0] < a[1]]


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
    ends = [job["ended"] for job in jobs]
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
