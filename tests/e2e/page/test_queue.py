"""A queue's own page: its state, who is next, and its last hour."""

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.e2e.page.conftest import RETENTION, signed_in
from tests.support.stack import Stack

pytestmark = pytest.mark.soak


def chart(page: Page, name: str) -> Locator:
    return page.locator(f'[data-chart="{name}"]')


async def test_a_queue_shows_what_runs_and_waits_and_its_last_hour(page: Page, stack: Stack) -> None:
    queue = 'one/"queue\\'  # of which a selector must not be made as it is
    await stack.ended("sleep 1", qname=queue)
    await stack.ended("exit 1", qname=queue)
    running = await stack.submit("sleep 600", qname=queue)
    await page.goto("/queues")
    await page.get_by_role("link", name=queue).click()
    await expect(page.get_by_role("heading", name=queue)).to_be_visible()
    await expect(page.locator("[data-running]")).to_have_text(running[-8:])
    waiting = [await stack.submit("true", qname=queue) for _ in range(2)]
    await expect(page.locator("[data-depth]")).to_have_text("2")
    await expect(page.locator("[data-waiting] a")).to_have_text([job_id[-8:] for job_id in waiting])
    await expect(page.locator("[data-ended]")).to_have_text("2, 1 failed")
    await expect(chart(page, "ended")).to_contain_text("2, 1 failed; at most")
    await expect(chart(page, "depth")).to_contain_text("now 2, at most 2.")
    await expect(chart(page, "depth").get_by_role("img")).to_have_accessible_name("Waiting: now 2, at most 2.")
    assert await chart(page, "ended").locator("rect.bar").count() == 60
    for job_id in [*waiting, running]:
        await stack.kill(job_id)
    await expect(page.locator("[data-running]")).to_have_text("Nothing runs")


async def test_what_is_unknown_of_the_last_hour_is_not_nothing(browser: Browser, stack: Stack, second_api: str) -> None:
    async with signed_in(browser, stack, "/queues/nobody", url=second_api) as page:
        await expect(page.locator("[data-known]")).to_contain_text("Not known before")
        await expect(chart(page, "depth").locator("rect.none")).to_have_count(60 - RETENTION // 60)
