"""What has the focus, what keys do there, and what is said where the browser refuses something."""

import re

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.e2e.page.conftest import live, signed_in
from tests.support.browser import window
from tests.support.stack import Stack

pytestmark = pytest.mark.soak

OUTLINE = "(row) => getComputedStyle(row).outlineStyle"
NO_CLIPBOARD = """
  if (navigator.clipboard)
    navigator.clipboard.writeText = () => Promise.reject(new DOMException("denied", "NotAllowedError"));
"""


async def confirm(page: Page, button: str) -> None:
    """Press what has the focus, and answer its question by keys."""
    await page.keyboard.press("Enter")
    await page.get_by_role("dialog").get_by_role("button", name=button).focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_where_a_button_goes_its_place_keeps_the_focus(page: Page, stack: Stack) -> None:
    await stack.ended("true", qname="hands-on")
    await page.goto("/queues/hands-on")
    await page.get_by_role("button", name="Pause… hands-on").focus()
    await page.keyboard.press("Enter")
    await page.keyboard.type("we move it")
    await page.keyboard.press("Enter")  # which means yes
    await expect(page.get_by_role("button", name="Resume hands-on")).to_be_focused()
    told = page.locator(".notice.paused")
    await expect(told).to_contain_text(re.compile(r"paused it at [\d:]+: “we move it”\."))
    await confirm(page, "Resume it")
    await expect(page.get_by_role("button", name="Pause… hands-on")).to_be_focused()
    await expect(told).to_have_count(0)
    await page.goto(f"/jobs/{await stack.submit('sleep 600', qname='hands-on')}")
    await page.get_by_role("button", name="Kill…").focus()
    await confirm(page, "Kill ")
    await expect(page.get_by_role("heading", name="Failed")).to_be_visible()
    await expect(page.locator("[data-acts]:focus, [data-acts] :focus")).to_have_count(1)
    await page.goto("/jobs?queue=hands-on")
    await live(page)
    job_id = await stack.submit("true", qname="hands-on")
    await page.get_by_role("button", name="1 new job").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name=job_id[-8:])).to_be_focused()


async def test_keys_work_on_a_checkbox_and_the_menu_closes_by_them(page: Page, parked: list[str]) -> None:
    await page.goto("/jobs?queue=parked")
    await page.get_by_label(f"Select {parked[0][-8:]}").focus()
    await page.keyboard.press("j")
    await expect(page.get_by_role("link", name=parked[1][-8:])).to_be_focused()
    summary, menu = page.locator("[data-menu] summary"), page.locator("[data-menu] .pop")
    await summary.focus()
    await page.keyboard.press("Enter")
    await expect(menu).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(menu).to_be_hidden()
    await expect(summary).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(menu).to_be_visible()
    await page.get_by_role("link", name="Submit a job").focus()
    await expect(menu).to_be_hidden()


async def test_on_a_phone_the_focus_is_seen_and_one_searches(browser: Browser, stack: Stack, parked: list[str]) -> None:
    """As with 400 % zoom."""
    async with signed_in(browser, stack, "/jobs?queue=parked", viewport={"width": 320, "height": 256}) as page:
        await page.keyboard.press("j")
        assert await page.locator(".row.at").evaluate(OUTLINE) != "none"
        await page.get_by_label("Find jobs").click()
        await page.keyboard.type(parked[3])
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile(f"/jobs/{parked[3]}$"))


async def test_what_the_browser_refuses_to_copy_or_load_is_said(desk: BrowserContext, stack: Stack) -> None:
    job_id = await stack.ended("true", qname="refusing")
    await desk.add_init_script(NO_CLIPBOARD)
    page = await desk.new_page()
    await page.goto(f"/jobs/{job_id}")
    await page.get_by_role("button", name="Copy the job's id").click()
    told = page.locator("[data-cause=failure]")
    await expect(told).to_contain_text("The browser did not let the page copy this.")
    await page.route("**/keys-table.js", lambda route: route.fulfill(status=404))
    await page.keyboard.press("?")
    await expect(told).to_contain_text("A part of this page could not be loaded.")


async def test_who_keeps_no_cookies_is_told_before_signing_in(browser: Browser, stack: Stack) -> None:
    """Else the form would come back for ever, without a word."""
    async with window(browser, stack.env["STINT_URL"]) as context:
        await context.add_init_script("Object.defineProperty(navigator, 'cookieEnabled', { value: false })")
        page = await context.new_page()
        await page.goto("/")
        await expect(page.get_by_text("This browser keeps no cookies of this site.")).to_be_visible()


async def test_a_list_that_was_refused_at_first_is_connected(page: Page) -> None:
    """Else it would say for ever that it connects, and not ask again once the API can answer."""
    await page.goto("/jobs?status=none-such")
    await expect(page.locator("[data-cause=failure]")).to_contain_text("status: must be one of")
    await live(page)
