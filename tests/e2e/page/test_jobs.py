"""The list of jobs: live, filtered by its address, and acting on several jobs at a time."""

import asyncio
import json
import re

import pytest
from playwright.async_api import Locator, Page, expect

import stint
from tests.api.client import in_steps
from tests.e2e.page.conftest import listed, live, overtaken, pause
from tests.support.stack import Stack

pytestmark = pytest.mark.soak

LIST = re.compile(r"/v1/api/job\?(?!.*\blimit=1\b)")
"""What the whole list is asked for with; counts are asked for with a limit of 1."""


def row(page: Page, job_id: str) -> Locator:
    return page.locator(f'tr[data-id="{job_id}"]')


async def test_new_jobs_wait_until_they_are_asked_for_and_no_change_is_lost(page: Page, stack: Stack) -> None:
    first = await listed(stack, await stack.submit(in_steps("echo up", "exit 7"), qname="meanwhile"))
    await page.goto("/jobs?queue=meanwhile")
    await expect(row(page, first)).to_contain_text("Running")
    second = await stack.submit("true", qname="meanwhile")
    new = page.locator("[data-new]")
    await expect(new).to_have_text("1 new job")
    await expect(row(page, second)).to_have_count(0)
    async with overtaken(page, LIST) as made:
        await new.click()
        await made.wait()
        await stack.go_on(first)
        await expect(row(page, first)).to_contain_text("Exit code 7")
        third = await stack.submit("true", qname="meanwhile")
        await expect(new).to_have_text("2 new jobs")
    await expect(page.locator("tbody tr").first).to_have_attribute("data-id", second)
    assert await row(page, first).locator(".c-say").inner_text() == "Exit code 7"
    await expect(row(page, second)).to_contain_text("Success")
    assert await new.inner_text() == "1 new job"
    await new.click()
    await expect(page.locator("tbody tr").first).to_have_attribute("data-id", third)


async def test_a_change_on_a_later_page_is_no_new_job(page: Page, stack: Stack, parked: list[str]) -> None:
    newest, oldest = [await stack.get(job_id) for job_id in (parked[0], parked[-1])]
    changed = [job | {"held": True, "status": "running", "node_uuid": "k3"} for job in (oldest, newest)]
    events = "".join(f"event: job\ndata: {json.dumps(job)}\n\n" for job in changed)
    body = f'event: hello\ndata: {{"release": "{stint.__version__}", "resumed": true}}\n\n{events}'
    await page.route("**/v1/api/events", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    await page.goto("/jobs?queue=parked")
    await expect(row(page, parked[0])).to_contain_text("Held")
    await expect(page.locator("[data-new]")).to_be_hidden()


async def test_a_job_that_leaves_the_filters_stays_dimmed_and_is_not_offered(page: Page, stack: Stack) -> None:
    first = await listed(stack, await stack.submit(in_steps("echo up", "true"), qname="leaving"))
    await page.goto("/jobs?queue=leaving")
    await page.get_by_role("navigation", name="Status").get_by_role("link", name=re.compile("Running")).click()
    await expect(page).to_have_url(re.compile(r"/jobs\?status=running&queue=leaving"))
    await expect(row(page, first)).to_be_visible()
    await live(page)
    await stack.go_on(first)
    await expect(row(page, first)).to_have_class(re.compile("gone"))
    second = await stack.submit(in_steps("echo up", "true"), qname="leaving")
    new = page.get_by_role("button", name="1 new job")
    await expect(new).to_be_visible()
    await stack.go_on(second)
    await expect(new).to_be_hidden()
    await page.go_back()
    await expect(page).to_have_url(re.compile(r"/jobs\?queue=leaving$"))


@pytest.mark.usefixtures("parked")
async def test_who_goes_back_finds_the_filters_of_the_list_and_nothing_selected(page: Page) -> None:
    """A browser would put back what was chosen, by its place: in rows that may be those of other jobs."""
    await page.goto("/jobs?queue=parked")
    await page.locator("tbody .check").first.check()
    await page.get_by_label("Submitted").select_option("Last hour")
    await expect(page).to_have_url(re.compile("since=1h"))
    await page.go_back()
    await expect(page).to_have_url(re.compile(r"queue=parked$"))
    await expect(page.get_by_label("Submitted")).to_have_value("")
    await expect(page.get_by_label("Queue", exact=True)).to_have_value("parked")
    await expect(page.locator(".check:checked")).to_have_count(0)


async def test_a_job_is_found_by_words_of_its_error(page: Page, stack: Stack) -> None:
    job_id = await stack.ended("true", qname="found", container_image="no-such.invalid/image:1")
    await listed(stack, job_id, status="failed")
    await page.goto("/jobs")
    await page.keyboard.press("/")
    await page.keyboard.type("NO-SUCH.invalid")
    await page.keyboard.press("Enter")
    await expect(row(page, job_id)).to_be_visible()
    await page.goto("/jobs?q=nothing-says-this")
    await expect(page.get_by_text("No job matches")).to_be_visible()


async def test_several_are_killed_with_one_question(page: Page, stack: Stack) -> None:
    await pause(stack, "several")
    jobs = [await stack.submit("true", qname="several") for _ in range(4)]
    await listed(stack, jobs[-1])
    await page.goto("/jobs?queue=several")
    for job_id in jobs[:3]:
        await row(page, job_id).get_by_role("checkbox").check()
    await page.get_by_role("region", name="Selected jobs").get_by_role("button", name="Kill…").click()
    await expect(page.get_by_role("dialog")).to_contain_text("They are in several.")
    await page.get_by_role("button", name="Kill 3 jobs").click()
    for job_id in jobs[:3]:
        await expect(row(page, job_id)).to_contain_text("Killed")
    bodies = await asyncio.gather(*(stack.get(job_id) for job_id in jobs))
    assert [body["status"] for body in bodies] == ["failed", "failed", "failed", "queued"]
