"""A job whose runner was lost, and which holds its queue: a person looks, and then releases it."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from stint.core.view import parse_time
from stint.jetstream import Access, JetStreamEventLog
from tests.api.client import in_steps
from tests.support.brokers import started
from tests.support.events import held
from tests.support.stack import Stack
from tests.support.waiting import until

pytestmark = pytest.mark.soak

IS_BACK = re.compile(r"The runner was back at \d\d:\d\d:\d\d and continued the job\.")


async def lose_its_runner(stack: Stack, job_id: str) -> None:
    """Record it, as the runner does that finds the job: a runner that is really lost takes a lease's time."""
    seed = Path(stack.env["STINT_NATS_NKEY_FILE"]).read_text().strip()  # noqa: ASYNC240 - a moment
    async with started(Access(url=stack.env["NATS_URL"], nkey=seed)) as broker:
        await broker.wait_connected()
        job = await JetStreamEventLog(broker).load(job_id)
        assert job
        await JetStreamEventLog(broker).append(job.token, job_id, held(job.runner), after=job.sequence)


async def test_a_held_job_is_told_everywhere_and_released_only_by_who_has_looked(page: Page, stack: Stack) -> None:
    job_id = await stack.submit("echo before; sleep 600", qname="lost", on_lost="hold")
    await stack.writes(job_id)
    await page.goto(f"/jobs/{job_id}")
    await lose_its_runner(stack, job_id)
    await expect(page.get_by_role("heading", name="Held")).to_be_visible()
    await expect(page.locator(".notice.held")).to_contain_text("Whether its container lives is not known.")
    await page.goto("/queues")
    steps = page.locator(".notice.held")
    await expect(steps).to_contain_text("lost waits for a person.")
    await expect(page.locator("[data-badge]")).to_have_text("1 need a person")
    await steps.get_by_role("button", name="Release…").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(f"docker ps -a --filter label=stint.job={job_id}")
    go = dialog.get_by_role("button", name=f"Release {job_id[-8:]}")
    await expect(go).to_be_disabled()
    await dialog.get_by_role("checkbox").check()
    await go.click()
    await expect(steps).to_have_count(0)
    async with stack.http() as http:
        await until(lambda: http.get(f"/v1/api/job/{job_id}"), lambda answer: answer.json()["status"] == "unknown")


async def test_a_queue_that_is_held_later_moves_no_notice_that_is_there(page: Page, stack: Stack) -> None:
    jobs = [await stack.submit("echo before; sleep 600", qname=name, on_lost="hold") for name in ("first", "second")]
    await stack.submit("true", qname="second")  # so that it is the first one in the table
    await page.goto("/queues")
    for count, job_id in enumerate(jobs, 1):
        await stack.writes(job_id)
        await lose_its_runner(stack, job_id)
        await expect(page.locator(".notice.held")).to_have_count(count)
    await expect(page.locator(".notice.held strong")).to_have_text(
        ["first waits for a person. ", "second waits for a person. "]
    )
    for job_id in jobs:
        await stack.kill(job_id)
        await stack.end(job_id)


async def test_a_job_is_not_held_any_more_once_its_runner_is_seen_to_be_back(page: Page, stack: Stack) -> None:
    job_id = await stack.submit(in_steps("echo before", "echo after; sleep 600"), qname="back", on_lost="hold")
    await stack.writes(job_id)
    await page.goto(f"/jobs/{job_id}")
    await lose_its_runner(stack, job_id)
    await expect(page.get_by_role("heading", name="Held")).to_be_visible()
    await stack.go_on(job_id)
    await expect(page.locator(".ln code", has_text="after")).to_be_visible()
    await expect(page.get_by_role("heading", name="Running")).to_be_visible()
    await expect(page.locator(".notice.running")).to_contain_text(IS_BACK)
    await expect(page.locator(".notice.held")).to_have_count(0)
    await expect(page.locator("[data-phases] .held")).to_have_count(0)
    await page.reload()
    await expect(page.locator(".notice.running")).to_contain_text(IS_BACK)
    shown = await stack.get(job_id)
    held_since, back_since = (parse_time(shown[name]) for name in ("held_since", "back_since"))
    assert held_since < back_since, "by the API, which the page only repeats"
    await stack.kill(job_id)
