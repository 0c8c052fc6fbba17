"""The list of runners, who may drain one, and what a runner says that it does for a job."""

import asyncio

from tests.api.client import JOB, WAIT, Api, until_term
from tests.support.waiting import until

RUNNERS = "/v1/api/runner"


async def test_the_list_says_what_each_runner_does(api: Api) -> None:
    job_id = await api.submit(until_term())
    await api.said(job_id)
    listed = await until(lambda: api.http.get(RUNNERS), lambda answer: job_id in answer.text)  # the jobs' list may lag
    answer = listed.json()
    (busy,) = [runner for runner in answer["data"] if job_id in runner["running"]]
    assert busy["runner"] == (await api.get(job_id))["node_uuid"]
    assert (busy["alive"], busy["draining"], busy["drained_by"], busy["queues"]) == (True, False, "", [])
    assert busy["capacity"] >= len(busy["running"])
    assert busy["engine"]["architecture"]
    assert busy["started"] < busy["last_seen"] <= answer["now"]
    await api.kill(job_id)


async def test_only_a_runner_that_is_there_is_asked_to_drain(api: Api) -> None:
    answer = await api.http.post(f"{RUNNERS}/nobody/drain")
    assert (answer.status_code, answer.json()["error"]) == (404, "No runner of this name is alive.")
    async with api.anonymous() as nobody:
        assert (await nobody.get(RUNNERS)).status_code == 400


async def test_a_stream_and_a_view_say_what_is_done(api: Api) -> None:
    job_id = await api.submit(until_term())
    async with asyncio.timeout(WAIT), api.http.stream("GET", f"{JOB}/{job_id}/events") as answer:
        lines = answer.aiter_lines()
        told = [await anext(lines) for _ in range(3)]
        while told[-1] != 'data: {"phase":"running","progress":null}':
            told.append(await anext(lines))
    assert told[-3] == "event: phase"
    await api.kill(job_id)
