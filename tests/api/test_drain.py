"""Contract, section 0: SIGTERM and SIGINT drain. `stint dev` starts a service again that has ended."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import httpx
import pytest

from stint.core.view import parse_time
from tests.api.client import JOB, Api, Json, in_steps, new_queue, until_term
from tests.api.conftest import DRAIN
from tests.support.servers import ready
from tests.support.stack import gone
from tests.support.waiting import until, until_true

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module", autouse=True)
def _processes(api: Api) -> None:
    if not (Path(api.env.get("STINT_DATA_DIR", "/nowhere")) / "run").is_dir():
        pytest.skip("the stack's processes are elsewhere")


RUNNERS = "/v1/api/runner"


class Runner:
    """The one that has a job, and what its log had before it is signalled."""

    def __init__(self, api: Api, name: str) -> None:
        self.name, self.pid = name, api.pid(name)
        self._log = Path(api.env["STINT_DATA_DIR"]) / "log" / f"{name}.log"
        self._before = self._log.stat().st_size

    def _said(self, event: str) -> bool:
        return f'"event": "{event}"'.encode() in self._log.read_bytes()[self._before :]

    async def drains(self) -> None:
        """Return when it takes no more jobs."""
        await until_true(lambda: self._said("draining"))

    async def back(self) -> None:
        """Return when its process is another that takes jobs."""
        await gone(self.pid)
        await until_true(lambda: self._said("runner ready"))


async def by_signal(_api: Api, runner: Runner) -> None:
    os.kill(runner.pid, signal.SIGTERM)
    await runner.drains()


async def through_the_api(api: Api, runner: Runner) -> None:
    """And wait until it says so: it hears of it a moment later."""
    answer = await api.http.post(f"{RUNNERS}/{runner.name}/drain")
    assert (answer.status_code, answer.json()) == (202, {"runner": runner.name, "asked": True})
    told = await until(partial(listed, api), partial(_drains, runner, really=True))
    assert told[runner.name]["drained_by"].startswith("token")


def _drains(runner: Runner, found: Mapping[str, Json], *, really: bool) -> bool:
    return runner.name in found and found[runner.name]["draining"] is really


async def listed(api: Api) -> Mapping[str, Json]:
    return {found["runner"]: found for found in (await api.http.get(RUNNERS)).json()["data"]}


@pytest.mark.parametrize("drain", [by_signal, through_the_api])
async def test_a_runner_lets_its_jobs_end_and_takes_no_more(
    api: Api, drain: Callable[[Api, Runner], Awaitable[None]]
) -> None:
    running = await api.submit(in_steps("echo ready", "echo done"))
    await api.said(running)
    runner = Runner(api, (await api.get(running))["node_uuid"])
    await drain(api, runner)
    others = [asyncio.create_task(api.run()) for _ in range(4)]
    await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    await api.go_on(running)
    ended = await api.ended(running)
    assert (ended["status"], ended["output"]) == ("success", "ready\ndone\n")
    assert_run_by_another(await asyncio.gather(*others), runner, ended)
    await runner.back()
    await until(partial(listed, api), partial(_drains, runner, really=False))


def assert_run_by_another(jobs: Collection[Json], runner: Runner, last: Json) -> None:
    """As far as they started before the end of the runner's last job."""
    assert {job["status"] for job in jobs} == {"success"}
    meanwhile = {job["node_uuid"] for job in jobs if parse_time(job["started"]) < parse_time(last["ended"])}
    assert meanwhile
    assert runner.name not in meanwhile


async def test_a_job_past_the_drains_bound_is_ended(api: Api) -> None:
    """SIGINT drains too: the job is not told to end before."""
    qname = new_queue()
    running = await api.submit(until_term("echo told; exit 0"), qname=qname)
    behind = await api.submit(qname=qname)
    await api.said(running)
    runner, begun = Runner(api, (await api.get(running))["node_uuid"]), time.monotonic()
    os.kill(runner.pid, signal.SIGINT)
    await runner.drains()
    others = await asyncio.gather(api.run(), api.run())
    ended = await api.ended(running)
    assert time.monotonic() - begun >= DRAIN
    assert ended["status"] in {"failed", "unknown"}
    assert ended["reason"] in {"killed", "lost"}
    assert_run_by_another(others, runner, ended)
    assert (await api.ended(behind))["status"] == "success"
    await runner.back()


async def test_the_api_finishes_what_it_has_begun(api: Api) -> None:
    """A request whose body it waits for is answered; a stream of events ends, without the job's end."""
    body = httpx.Request("POST", "http://x", json=await api.plain("echo taken")).content
    url, job_id = httpx.URL(api.env["STINT_URL"]), await api.submit(until_term())
    await api.said(job_id)
    begun = asyncio.Event()
    following = asyncio.create_task(_names(api, job_id, begun))
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = ["Host: x", f"X-Auth-Token: {api.vault.client}", f"Content-Length: {len(body)}", "Expect: 100-continue"]
    writer.write("\r\n".join([f"POST {JOB} HTTP/1.1", *lines, "", ""]).encode())
    async with asyncio.timeout(30):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await begun.wait()
        pid = api.pid("api-1")
        os.kill(pid, signal.SIGTERM)
        assert "end" not in await following
        writer.write(body)
        answer = (await reader.read()).decode()
        writer.close()
        await gone(pid)
        await until(lambda: ready(api.http))
    assert answer.startswith("HTTP/1.1 200 ")
    submitted: Json = httpx.Response(200, content=answer.partition("\r\n\r\n")[2]).json()
    assert (await api.ended(submitted["_id"]))["output"] == "taken\n"
    await api.kill(job_id)
    assert (await api.ended(job_id))["reason"] == "killed"


async def _names(api: Api, job_id: str, begun: asyncio.Event) -> list[str]:
    names: list[str] = []
    try:
        async for event in api.events(job_id):
            names.append(event.name)
            begun.set()
    except httpx.TransportError:
        pass
    assert names
    return names
