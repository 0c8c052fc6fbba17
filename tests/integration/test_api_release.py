"""Held jobs: what the API says of them, and their release."""

import asyncio
import json

import httpx
import pytest

from stint.core.events import AnyEvent, Released
from stint.core.view import NEVER, parse_time, rfc3339, view
from stint.ports import Outcome
from tests.support.api_bench import Bench
from tests.support.events import ended, held, kill_requested, launched, started
from tests.support.outputs import Writer
from tests.support.waiting import until


async def release(bench: Bench, job_id: str) -> httpx.Response:
    return await bench.http.post(f"/v1/api/job/{job_id}/release")


async def back_since(bench: Bench, job_id: str) -> tuple[str | None, str | None]:
    """Since when the job's runner is back: by a GET, and at the end of its live stream once the job has ended."""
    shown = (await bench.http.get(f"/v1/api/job/{job_id}")).json()
    if shown["ended"] == NEVER:
        return shown["back_since"], None
    stream = (await bench.http.get(f"/v1/api/job/{job_id}/events")).text
    end = json.loads(stream.rpartition("data: ")[2])
    return shown["back_since"], end["back_since"]


async def test_a_held_job_says_since_when_its_runner_is_back(bench: Bench) -> None:
    job_id = await bench.happened(started())
    token = (await bench.load(job_id)).token
    writer = Writer(bench.parts.output, token, job_id)
    await writer.write(b"before\n")
    assert await back_since(bench, job_id) == (None, None), "not held"
    assert await bench.parts.log.append(token, job_id, held()) is Outcome.WON
    assert await back_since(bench, job_id) == (None, None), "no sign since it was held"
    for _ in range(3):
        await writer.write(b"after\n")
    chunks = [chunk async for chunk in bench.parts.output.read(token, job_id)]
    back = rfc3339(parse_time(chunks[1].time))
    assert await back_since(bench, job_id) == (back, None), "the first output since then"
    assert await bench.parts.log.append(token, job_id, writer.counted(ended())) is Outcome.WON
    assert await back_since(bench, job_id) == (back, back)
    await bench.put_view(view(await bench.load(job_id)))
    listed = await until(lambda: bench.http.get(f"/v1/api/job?id={job_id}"), lambda answer: answer.json()["total"])
    assert [job["back_since"] for job in listed.json()["data"]] == [None], "lists do not find it out"


@pytest.mark.parametrize("sign", [launched(), ended("failed")], ids=["launched", "ended"])
async def test_without_output_what_the_runner_records_says_that_it_is_back(bench: Bench, sign: AnyEvent) -> None:
    job_id = await bench.happened(started(), held(), kill_requested())
    assert await back_since(bench, job_id) == (None, None), "somebody else asked for the kill"
    job = await bench.load(job_id)
    assert await bench.parts.log.append(job.token, job_id, sign) is Outcome.WON
    seen = rfc3339(parse_time((await bench.load(job_id)).facts[sign.kind].time))
    assert (await back_since(bench, job_id))[0] == seen


async def test_many_releases_at_once_are_one(bench: Bench) -> None:
    job_id = await bench.happened(started(), held())
    answers = await asyncio.gather(*(release(bench, job_id) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["status"] for answer in answers} <= {"running", "unknown"}


async def test_either_the_release_or_the_runner_that_came_back_ends_the_job(bench: Bench) -> None:
    for _ in range(10):
        job_id = await bench.happened(started(), held())
        token = (await bench.load(job_id)).token
        answer, outcome = await asyncio.gather(
            release(bench, job_id), bench.parts.log.append(token, job_id, ended("success"))
        )
        job = await bench.load(job_id)
        if outcome is Outcome.WON:
            assert (answer.status_code, job.state.value, Released.kind in job.facts) == (400, "success", False)
        else:
            assert (answer.status_code, job.state.value, Released.kind in job.facts) == (200, "unknown", True)


async def test_policies_decide_who_releases(bench: Bench) -> None:
    rules = {
        "may-release": 'path "stint/release/deploys" { capabilities = ["update"] }',
        "may-not-release": 'path "stint/queue/*" { capabilities = ["create", "read", "update", "delete", "sudo"] }',
    }
    headers = {name: {"X-Auth-Token": await bench.token_with(rule)} for name, rule in rules.items()}
    path = f"/v1/api/job/{await bench.happened(started(), held())}"
    refused = await bench.http.post(f"{path}/release", headers=headers["may-not-release"])
    assert (refused.status_code, refused.json()["status"]) == (403, "Permission Denied.")
    assert '"update" on "stint/release/deploys"' in refused.json()["error"]
    assert (await bench.http.post(f"{path}/release", headers=headers["may-release"])).status_code == 200
    assert (await bench.http.get(path, headers=headers["may-release"])).status_code == 403
