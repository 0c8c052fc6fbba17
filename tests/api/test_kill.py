"""Contract, sections 0, 2 and 3: kill, at every moment of a job's life."""

import asyncio
import statistics
import time

import pytest

from tests.api.client import NEVER, Api, Json, new_queue, until_term

GRACE = 15
"""Seconds: the default. The suite's own stacks have less."""


async def test_the_answer(api: Api) -> None:
    qname = new_queue()
    running = await api.submit(until_term(), qname=qname)
    queued = await api.submit(qname=qname)
    await api.said(running)
    container = (await api.get(running))["container_id"]
    wanted = {"_id": queued, "container_id": "", "status": "queued", "kill_requested": True}
    assert await api.kill(queued) == wanted
    wanted = {"_id": running, "container_id": container, "status": "running", "kill_requested": True}
    assert await api.kill(running) == wanted
    ended = await api.ended(running)
    assert await api.kill(running) == {**wanted, "status": ended["status"]}
    upper = running.upper()
    assert (await api.kill(upper))["_id"] == upper


async def test_a_queued_job_ends_at_once_and_never_runs(api: Api) -> None:
    qname = new_queue()
    async with api.busy(qname):
        queued = await api.submit("echo it ran", qname=qname)
        last = await api.submit("echo last", qname=qname)
        await api.kill(queued)
        job = await api.get(queued)
        assert (job["status"], job["reason"], job["kill_requested"]) == ("failed", "killed", True)
        assert (job["output"], job["error"], job["return_code"]) == ("job killed", "job killed", 0)
        assert (job["started"], job["container_id"]) == (NEVER, "")
        assert job["ended"] != NEVER
        assert await api.status(last) == "queued"
    assert (await api.ended(last))["output"] == "last\n"
    assert await api.get(queued) == job


async def test_a_running_job_that_ends_on_sigterm(api: Api) -> None:
    """What was killed has failed, even if it exits 0; its output is kept."""
    for code in (0, 9):
        job_id = await api.submit(until_term(f"echo bye; exit {code}"))
        await api.said(job_id)
        answers = await asyncio.gather(*(api.kill(job_id) for _ in range(10)))
        assert {answer["kill_requested"] for answer in answers} == {True}, "many at once are one"
        job = await api.ended(job_id)
        assert (job["status"], job["reason"], job["return_code"]) == ("failed", "killed", code)
        assert (job["output"], job["kill_requested"]) == ("ready\nbye\n", True)


async def test_a_job_that_ignores_sigterm_is_stopping_for_the_grace_and_then_137(api: Api) -> None:
    qname = new_queue()
    job_id = await api.submit(until_term(""), qname=qname)
    behind = await api.submit(qname=qname)
    await api.said(job_id)
    asked = time.monotonic()
    await api.kill(job_id)
    job = await api.get(job_id)
    assert (job["status"], job["ended"], job["kill_requested"]) == ("stopping", NEVER, True)
    assert await api.status(behind) == "queued", "a stopping job holds its queue"
    assert (await api.kill(job_id))["status"] == "stopping"
    job = await api.ended(job_id)
    assert (job["status"], job["reason"], job["return_code"]) == ("failed", "killed", 137)
    assert 1 < time.monotonic() - asked < GRACE + 5
    assert (await api.ended(behind))["status"] == "success"


async def test_an_ended_job_is_not_changed(api: Api) -> None:
    for job in (await api.run("echo done"), await api.run("false"), await api.run(wrap_secret_id="junk")):
        answers = [await api.kill(job["_id"]) for _ in range(2)]
        assert [(answer["status"], answer["kill_requested"]) for answer in answers] == [(job["status"], False)] * 2
        assert await api.get(job["_id"]) == job


async def _killed_after(api: Api, kind: str) -> Json:
    job_id = await api.submit("echo it ran; sleep 600")
    if kind:
        await api.happened(job_id, kind)
    await api.kill(job_id)
    return await api.ended(job_id)


async def test_at_every_moment_before_it_runs(api: Api) -> None:
    """Wherever the kill finds the jobs, which are side by side, they end as killed."""
    kinds = ("", "submitted", "started", "launched") * 2
    for job in await asyncio.gather(*(_killed_after(api, kind) for kind in kinds)):
        assert (job["status"], job["reason"], job["kill_requested"]) == ("failed", "killed", True)


async def _milliseconds_to_sigterm(api: Api) -> float:
    """From before the POST to the signal inside the container, whose clock shows hundredths of seconds."""
    job_id = await api.submit(until_term("cat /proc/uptime; exit 0"))
    await api.said(job_id)
    asked = time.clock_gettime(time.CLOCK_BOOTTIME)
    await api.kill(job_id)
    job = await api.ended(job_id)
    return (float(job["stdout"].split()[1]) - asked) * 1000


async def test_sigterm_comes_within_200_ms(api: Api) -> None:
    """The median, since a busy machine delays a single one at will; 10 ms of it are the clock's."""
    if not api.env["DOCKER_HOST"].startswith("unix://"):
        pytest.skip("the engine's machine has another clock")
    taken = [await _milliseconds_to_sigterm(api) for _ in range(5)]
    assert statistics.median(taken) <= 200 + 10, taken
