"""The page without scripts, and what scripts make of what the server has drawn."""

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.e2e.page.conftest import PARKED, WIDE, listed, live, signed_in
from tests.support.stack import Stack
from tests.support.waiting import until

pytestmark = pytest.mark.soak

FULL = 50
BLANKED = """
  new MutationObserver((records) => {
    for (const { removedNodes } of records)
      for (const node of removedNodes)
        if (node.matches?.('tr[data-id]')) globalThis.removed = (globalThis.removed ?? 0) + 1;
  }).observe(document, { childList: true, subtree: true });
"""
"""Counts rows that are taken away."""


@pytest.fixture
async def plain(browser: Browser, stack: Stack) -> AsyncIterator[Page]:
    """A window without scripts, in which somebody is signed in."""
    async with signed_in(browser, stack, java_script_enabled=False, viewport=WIDE) as page:
        yield page


async def test_without_scripts_one_signs_in_filters_pages_and_signs_out(plain: Page, parked: list[str]) -> None:
    await plain.get_by_label("Queue").fill("parked")
    await plain.get_by_role("button", name="Filter").click()
    await expect(plain).to_have_url(re.compile(r"/jobs\?queue=parked"))
    await expect(plain.locator("tbody tr")).to_have_count(FULL)
    await expect(plain.get_by_role("navigation", name="Status")).to_contain_text(f"Queued{PARKED}")
    links = plain.locator("tbody").get_by_role("link")
    assert await links.all_inner_texts() == [job_id[-8:] for job_id in parked[:FULL]]
    await plain.get_by_role("link", name="Older").click()
    await expect(links).to_have_text([job_id[-8:] for job_id in parked[FULL:]])
    await expect(plain.get_by_text(f"51 to {PARKED} of {PARKED}")).to_be_visible()
    await plain.get_by_role("navigation", name="Status").get_by_role("link", name="All").click()
    await expect(plain.locator("tbody tr")).to_have_count(FULL)
    await plain.get_by_role("searchbox", name="Find jobs").fill(parked[0][-8:])
    await plain.keyboard.press("Enter")
    await expect(links).to_have_text([parked[0][-8:]])
    await plain.locator("summary").click()
    await plain.get_by_role("button", name="Sign out").click()
    await expect(plain.get_by_label("Vault token")).to_be_visible()


async def test_without_scripts_nothing_is_offered_that_needs_them(plain: Page) -> None:
    for label in ("Theme", "Select all jobs that are shown", "Keys ?"):
        await expect(plain.get_by_label(label)).to_be_hidden()
    await expect(plain.get_by_text("Connecting")).to_be_hidden()
    told = plain.locator("noscript p")
    await expect(told).to_contain_text("shows what was so at")
    await told.get_by_role("link", name="Refresh").click()
    await expect(plain.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()


async def test_scripts_take_over_the_rows_that_are_there(page: Page, parked: list[str]) -> None:
    """Nothing is asked for again, and nothing on the screen is replaced by the same."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.add_init_script(BLANKED)
    await page.goto("/jobs?queue=parked")
    await live(page)
    await page.keyboard.press("j")
    await expect(page.get_by_role("link", name=parked[0][-8:])).to_be_focused()
    await page.keyboard.press("x")
    await expect(page.get_by_role("region", name="Selected jobs")).to_contain_text("1 selected")
    assert not [url for url in asked if "/v1/api/job" in url]
    assert await page.evaluate("globalThis.removed ?? 0") == 0


async def test_what_changes_between_the_page_and_its_stream_is_not_missed(page: Page, stack: Stack) -> None:
    """Its scripts come only when the jobs have changed."""
    job_id = await listed(stack, await stack.submit("read line < /dev/zero; sleep 1000", qname="between"))
    asked = asyncio.get_running_loop().create_future()
    await page.route("**/assets/**/jobs.js", lambda route: asked.set_result(route))  # noqa: PLW0108 - Playwright wants a function
    await page.goto("/jobs?queue=between", wait_until="commit")
    row = page.locator(f'tr[data-id="{job_id}"]')
    await expect(row).to_be_visible()
    await stack.kill(job_id)
    await stack.end(job_id)
    new = await stack.submit("true", qname="between")
    await stack.end(new)
    await listed(stack, new)
    route: Route = await asked
    await route.continue_()
    await expect(row).to_contain_text("Killed")
    await expect(page.get_by_role("button", name="1 new job")).to_be_visible()
    await expect(page.locator("tbody tr")).to_have_count(1)


async def test_where_a_script_did_not_come_the_page_can_be_loaded_again(page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.route("**/assets/**/words.js", lambda route: route.abort())
    await page.goto("/jobs")
    again = page.get_by_role("link", name="Reload")
    await expect(again).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    await page.unroute_all()
    await again.click()
    await live(page)
    await expect(again).to_have_count(0)


async def test_without_scripts_a_job_is_read_and_its_output_saved(plain: Page, stack: Stack) -> None:
    job_id = await stack.ended("echo first; echo wrong >&2; exit 3", qname="read")
    await listed(stack, job_id)
    await plain.goto("/jobs?queue=read")
    await plain.get_by_role("link", name=job_id[-8:]).click()
    await expect(plain.get_by_text("The command ended with exit code 3.")).to_be_visible()
    await expect(plain.locator(".phases li")).to_contain_text(["Queued", "Prepared", "Ran"])
    await expect(plain.get_by_label("About the job")).to_contain_text("Ended: failed, exit code 3")
    await expect(plain.get_by_role("toolbar", name="Output")).to_be_hidden()
    async with plain.expect_download() as saved:
        await plain.get_by_role("link", name="Its last 1,000 lines").click()
    assert sorted((await (await saved.value).path()).read_text().splitlines()) == ["first", "wrong"]


async def test_scripts_take_over_a_job_that_is_there(page: Page, stack: Stack) -> None:
    job_id = await stack.ended("echo first; exit 3", qname="read")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    await page.goto(f"/jobs/{job_id}")
    await expect(page.locator(".ln code").first).to_have_text("first")
    await expect(page.locator("[data-history] li")).to_have_count(4)
    await expect(page.locator(".phases li")).to_have_count(3)
    await expect(page.locator(".notice")).to_have_count(1)
    assert f"/v1/api/job/{job_id}" not in asked
    assert f"/v1/api/job/{job_id}/events" in asked


CELLS = """(rows) => rows.map((row) => ['.c-q', '.st', '.c-n', '.c-w', '.c-l', '.c-h', '.c-e', '.c-v'].map(
  (cell) => row.querySelector(cell)?.textContent.trim() ?? ''))"""
"""What no clock changes in the rows of queues and runners."""


@pytest.mark.usefixtures("parked")
async def test_queues_and_runners_say_the_same_with_scripts_and_without(plain: Page, page: Page, stack: Stack) -> None:
    job_id = await stack.submit("sleep 600", qname="busy")
    await stack.ended("exit 1", qname="idle")
    async with stack.http() as http:  # what is drawn twice must not change in between: both lists lag
        await until(
            lambda: http.get("/v1/api/queue"),
            lambda answer: [queue["qname"] for queue in answer.json()["data"] if queue["running"]] == ["busy"],
        )
        await until(
            lambda: http.get("/v1/api/runner"),
            lambda answer: [job for runner in answer.json()["data"] for job in runner["running"]] == [job_id],
        )
    for view, name in (("/queues", "parked"), ("/runners", "runner-1")):
        await page.goto(view)
        await live(page)
        await expect(page.get_by_role("row", name=re.compile(name)).get_by_role("button")).to_be_visible()
        await expect(page.get_by_role("link", name=job_id[-8:])).to_be_visible()
        await plain.goto(view)
        scripted = await page.locator("tbody tr").evaluate_all(CELLS)
        assert await plain.locator("tbody tr").evaluate_all(CELLS) == scripted
        await expect(plain.get_by_role("row", name=re.compile(name))).to_be_visible()
    await stack.kill(job_id)


async def test_what_the_audit_shows_is_filtered_at_once_and_exported(page: Page, stack: Stack) -> None:
    job_id = await stack.submit("true", qname="audited")
    async with stack.http() as http:
        await until(
            lambda: http.get("/v1/api/audit?qname=audited"),
            lambda answer: job_id in {action["job"] for action in answer.json()["data"]},
        )
    await page.goto("/audit?queue=audited&since=1h")
    await expect(page.get_by_role("link", name=job_id[-8:])).to_be_visible()
    async with page.expect_download() as saved:
        await page.get_by_role("button", name="Export").click()
    assert (await saved.value).suggested_filename == "stint-audit.jsonl"
    await page.get_by_label("Who").fill("nobody")
    await page.get_by_label("Who").press("Enter")
    await expect(page).to_have_url(re.compile(r"/audit\?queue=audited&by=nobody&since=1h$"))
    await expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()


async def test_without_scripts_the_form_for_jobs_says_what_does_the_same(plain: Page) -> None:
    await plain.goto("/submit")
    await expect(plain.locator("noscript p")).to_contain_text("stint run --queue QUEUE --image IMAGE -- COMMAND")
    await expect(plain.locator("main")).to_be_hidden()


async def test_without_scripts_a_job_is_killed_after_a_question(plain: Page, stack: Stack) -> None:
    job_id = await stack.submit("sleep 600", qname="asked")
    await plain.goto(f"/jobs/{job_id}")
    await plain.get_by_role("link", name="Kill…").click()
    await expect(plain.get_by_role("heading", name=f"Kill {job_id[-8:]}?")).to_be_visible()
    await plain.get_by_role("link", name="Cancel").click()
    await plain.get_by_role("link", name="Kill…").click()
    await plain.get_by_role("button", name=f"Kill {job_id[-8:]}").click()
    await expect(plain).to_have_url(re.compile(f"/jobs/{job_id}"))
    assert (await stack.end(job_id))["reason"] == "killed"
